"""Bindings to frameworks; each module needs its own, which is an extra: `pgprog[django]`.

A request that is submitted in the transaction of an application exists if and only if that
transaction commits; these modules find the connection of that transaction.
"""

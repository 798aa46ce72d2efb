"""Clients and workers under faults; then a checker proves the invariants I1 to I8.

`python -m tests.chaos --minutes 15 --seed N`, or `make chaos`.  The checker reads tables and logs
with statements of its own and calls no function of pgprog.
"""

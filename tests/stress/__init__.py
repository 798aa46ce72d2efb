"""Reads from memory under faults; an oracle says what each of them must at least show.

`python -m tests.stress --reads 1000000 --seed N`, or `make stress`.  A program of its own writes by
plain SQL and tells when each commit was acknowledged; nothing of the cache decides what is right.
"""

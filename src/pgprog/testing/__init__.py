"""What tests of applications, and of pgprog itself, are built on; no database is needed.

`pgprog.testing.twin` is the engine's meaning in memory.
"""

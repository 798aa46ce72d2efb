"""Processes in memory, kept true by the replication stream.

`fence` decides what may be kept and served; it does no I/O and has no clock.  `reader` brings it
the stream and the beats.  Why it is right: docs/decisions/0002-the-cache.md.
"""

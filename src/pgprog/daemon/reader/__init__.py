"""The shared reader: answers reads of programs of this machine from one memory of processes."""

from pgprog.daemon.reader.serving import reading

__all__ = ["reading"]

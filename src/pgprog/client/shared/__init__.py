"""Reads from the memory of another program: a reader that all programs of a machine share."""

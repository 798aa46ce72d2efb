"""A night of faults under load: what each looks like in five windows, and how it is mended.

`make night` runs it, proves the invariants of the load with the checker of the chaos, and writes
docs/operations/night.md.
"""

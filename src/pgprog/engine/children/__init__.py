"""Child processes of a worker, in which steps run that must not take others down with them."""

from pgprog.engine.children.apart import Apart
from pgprog.engine.children.pool import Children

__all__ = ["Apart", "Children"]

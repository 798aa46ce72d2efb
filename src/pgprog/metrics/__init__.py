"""What is counted and measured: recorded where it happens, for next to nothing, read on demand.

Only `pgprog.metrics.exposition` knows Prometheus; it is imported where somebody asks for that.
"""

from pgprog.metrics.instruments import Metrics
from pgprog.metrics.samples import Sample, merged

__all__ = ["Metrics", "Sample", "merged"]

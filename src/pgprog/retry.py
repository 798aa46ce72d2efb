"""When a failed step is tried again, and when it is given up."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

# The ranges are for the configuration, which reads them.
Interval = Annotated[timedelta, "0s to 365d"]
Coefficient = Annotated[float, "1 to 1000"]
Attempts = Annotated[int, "1 to 1000000"]
Share = Annotated[float, "0 to 1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to wait after each failure, and when to give up.

    The delay starts at *initial_interval*, grows by *backoff_coefficient* with each failure and
    stays at *max_interval* once it is there: a cap, not an end.  What ends it is *max_attempts*,
    the first included, and an error named in *non_retryable*: the name of an exception class or
    a `PermanentError.code`.  *jitter* spreads each delay evenly over ± that share of it, so that
    steps which failed together do not come back together.
    """

    initial_interval: Interval = timedelta(seconds=5)
    backoff_coefficient: Coefficient = 2.0
    max_interval: Interval = timedelta(minutes=3)
    max_attempts: Attempts = 3
    jitter: Share = 0.1
    non_retryable: frozenset[str] = frozenset()

    def next_delay(
        self, *, failures: int, error_type: str, code: str | None, random: float
    ) -> timedelta | None:
        """Return the wait before the next attempt, or None to give up.

        *failures* counts this failure too.  *random*, in [0, 1), picks the place within the
        jitter, which never goes above *max_interval*.
        """
        if failures >= self.max_attempts or not self.non_retryable.isdisjoint((error_type, code)):
            return None
        interval = min(self._interval(failures), self.max_interval)
        least = interval * (1 - self.jitter)
        most = min(interval * (1 + self.jitter), self.max_interval)
        return least + (most - least) * random

    def _interval(self, failures: int) -> timedelta:
        """Return the delay without jitter; the cap, where the power is beyond all numbers."""
        try:
            return self.initial_interval * self.backoff_coefficient ** (failures - 1)
        except OverflowError:
            return self.max_interval if self.initial_interval else timedelta()


ONE_ATTEMPT = RetryPolicy(max_attempts=1)

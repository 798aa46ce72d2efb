"""The settings of a namespace: how its tasks are treated, by all workers alike."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Literal, Self

from pgprog.codec import Numbers
from pgprog.config.schema import Reader, to_plain
from pgprog.model import Limits, TaskType
from pgprog.retry import Attempts, Coefficient, Interval, RetryPolicy, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOverride:
    """What the retry policy of one task type has of its own; None is as in the namespace's."""

    initial_interval: Interval | None = None
    backoff_coefficient: Coefficient | None = None
    max_interval: Interval | None = None
    max_attempts: Attempts | None = None
    jitter: Share | None = None
    non_retryable: frozenset[str] | None = None

    def over(self, policy: RetryPolicy) -> RetryPolicy:
        """Return *policy* with what is given here in its place."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return dataclasses.replace(policy, **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """The cache of one namespace; *ttl* counts from the last change or read."""

    enabled: bool = False
    ttl: Annotated[timedelta, "1s to 365d"] = timedelta(minutes=5)
    max_bytes: Annotated[int, "1MiB to 1024GiB"] = 256 << 20
    max_lag: Annotated[timedelta, "0s to 1d"] = timedelta(seconds=1)
    wait: Annotated[timedelta, "0s to 1m"] = timedelta(milliseconds=10)
    reconnect: Annotated[timedelta, "10ms to 1h"] = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSettings:
    """What may be set for a namespace, in code, in the file and in the database.

    *concurrency* bounds the running tasks of the whole cluster, None does not.  *history* is how
    many of the newest events are loaded with a step, "full" all of them, but never more than 4 MiB:
    a step that asks for others reads the database.  A worker holds them for all its running steps
    at once.  A timer overdue by *timer_patience* goes before calls that came after it was due.
    A step lost with its worker *max_crashes* times ends in error.  *numbers* says what a fraction
    in plain JSON becomes.  *roles* are the database roles whose members may use the namespace, None
    everybody whom the grants let.  A change of settings is taken back when, within
    *rollback_within*, more than the share *rollback_above* of its tasks fail; None: never.
    """

    concurrency: Annotated[int, "1 to 1000000"] | None = None
    step_timeout: Annotated[timedelta, "10ms to 7d"] = timedelta(seconds=30)
    isolation: Literal["thread", "process"] = "thread"
    history: Annotated[int, "0 to 100000"] | Literal["full"] = 0
    retention: Annotated[timedelta, "0s to 36500d"] = timedelta(days=30)
    max_queue: Annotated[int, "1 to 1000000000"] = 100_000
    on_full: Literal["refuse", "drop_lowest"] = "refuse"
    on_call_error: Literal["break", "reject"] = "break"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    retry_by_type: Mapping[TaskType, RetryOverride] = field(default_factory=dict)
    cache: CacheSettings = field(default_factory=CacheSettings)
    timer_patience: Annotated[timedelta, "0s to 36500d"] = timedelta(seconds=60)
    max_crashes: Annotated[int, "1 to 1000"] = 3
    numbers: Numbers = "float"
    roles: frozenset[str] | None = None
    rollback_above: Share | None = None
    rollback_within: Annotated[timedelta, "0s to 36500d"] = timedelta(minutes=10)
    limits: Limits = field(default_factory=Limits)

    def retry_for(self, type_: TaskType) -> RetryPolicy:
        """Return the policy for tasks of one type.

        An init, a call and a repair have one attempt, unless *retry_by_type* gives them more:
        somebody waits for their answer and may decide himself.
        """
        policy = self.retry
        if type_ in (TaskType.INIT, TaskType.CALL, TaskType.REPAIR):
            policy = dataclasses.replace(policy, max_attempts=1)
        override = self.retry_by_type.get(type_)
        return policy if override is None else override.over(policy)

    def to_json(self) -> dict[str, object]:
        """Return all settings as plain JSON: durations as texts, sizes in bytes, no nulls."""
        return {
            f.name: to_plain(value)
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) is not None
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object], *, where: str = "the settings") -> Self:
        """Return the settings that *data* says, over the defaults.

        Values may also have their Python types: a timedelta, a `RetryPolicy`.

        Raises:
            ConfigError: There are faults; the message begins with *where* and lists them.
        """
        reader = Reader()
        settings = reader.read_fields(cls, data, path="")
        return reader.checked(settings, where=where)

"""The configuration: read once, checked as a whole, frozen, passed down.

The dataclasses are the schema of the file; an annotation with a text says the range.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pgprog.codec import Numbers
from pgprog.config.schema import Reader, to_plain
from pgprog.config.sources import (
    Layers,
    check_variables,
    find_file,
    overlay,
    read_file,
    with_environ,
    with_profiles,
)
from pgprog.config.units import parse_address
from pgprog.encryption import Encryption
from pgprog.errors import ConfigError
from pgprog.model import Limits, TaskType
from pgprog.retry import Attempts, Coefficient, Interval, RetryPolicy, Share

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Wakeups = Literal["poll", "notify", "stream"]

_MODE = re.compile(r"0?[0-7]{3}")
_HANDLERS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceConfig:
    """A namespace that a worker serves: where its handlers are, and its settings.

    *given* holds what the file says, for `over`; *settings* is that over the defaults.
    """

    handlers: str
    settings: NamespaceSettings
    given: Mapping[str, object] = field(default_factory=dict)

    def over(self, defaults: NamespaceSettings) -> NamespaceSettings:
        """Return what the file says over *defaults*, those of the `Namespace` in code."""
        return NamespaceSettings.from_json(overlay(defaults.to_json(), self.given))

    @classmethod
    def read_section(cls, raw: object, *, path: str, reader: Reader) -> Self | None:
        """Return the section, in which *handlers* stands among the settings."""
        settings = reader.read_fields(NamespaceSettings, raw, path=path, besides=("handlers",))
        given = (
            {k: v for k, v in raw.items() if k != "handlers"} if isinstance(raw, Mapping) else {}
        )
        handlers = raw.get("handlers") if isinstance(raw, Mapping) else None
        if not isinstance(handlers, str) or _HANDLERS.fullmatch(handlers) is None:
            reader.add_fault(
                f"{path}.handlers", f"{handlers!r} is not module:name, such as shop:orders"
            )
            return None
        return None if settings is None else cls(handlers=handlers, settings=settings, given=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How many connections each part may hold, and how long it waits for a free one."""

    engine: Annotated[int, "1 to 1000"] = 4
    api: Annotated[int, "1 to 1000"] = 10
    transactions: Annotated[int, "1 to 1000"] = 10
    checkout_timeout: Annotated[timedelta, "10ms to 1h"] = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One worker daemon: *concurrency* steps at once in each of its *processes*.

    With *min_concurrency* so many at least: between the two it finds out how many at once do not
    make the handlers slower, and leave the processor some room.

    Of these, *children* at most run in child processes: steps of namespaces with isolation
    process, and those that were lost with a worker before.  *http* is the address at which health
    and metrics are shown, None does not.  A worker that holds more than *memory_limit*, its
    children apart, claims no more, lets its steps end within *stop_timeout*, and ends for another
    to be started in its place; None is no limit.

    *wakeups* is how it hears of what is due before the next poll: by LISTEN, what clients and other
    workers made due; by the replication stream besides, what anybody inserts by plain SQL, at the
    price of a replication slot and a walsender for each of *processes*.
    """

    concurrency: Annotated[int, "1 to 100000"] = 100
    min_concurrency: Annotated[int, "1 to 100000"] | None = None
    children: Annotated[int, "1 to 1000"] = 8
    processes: Annotated[int, "1 to 1024"] = 1
    poll_every: Annotated[timedelta, "10ms to 1h"] = timedelta(seconds=1)
    wakeups: Wakeups = "notify"
    lease: Annotated[timedelta, "1s to 1h"] = timedelta(seconds=10)
    heartbeat_every: Annotated[timedelta, "100ms to 30m"] = timedelta(seconds=2)
    stop_timeout: Annotated[timedelta, "0s to 1d"] = timedelta(seconds=30)
    memory_limit: Annotated[int, "32MiB to 1024GiB"] | None = None
    http: str | None = None

    def __post_init__(self) -> None:
        if self.http is not None:
            try:
                parse_address(self.http)
            except ValueError as e:
                msg = f"http: {e}"
                raise ConfigError(msg) from e
        if self.heartbeat_every * 2 > self.lease:
            beat, lease = to_plain(self.heartbeat_every), to_plain(self.lease)
            msg = f"heartbeat_every, {beat}, must be at most half of lease, {lease}"
            raise ConfigError(msg)
        if self.min_concurrency is not None and self.min_concurrency > self.concurrency:
            msg = (
                f"min_concurrency, {self.min_concurrency}, must be at most"
                f" concurrency, {self.concurrency}"
            )
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderConfig:
    """The reader that the programs of a machine share: where it listens, and who may ask.

    *mode* is that of the *socket*, in octal: who may write to it may read all that is served.
    """

    socket: str | None = None
    mode: str = "0660"

    def __post_init__(self) -> None:
        if _MODE.fullmatch(self.mode) is None:
            msg = f"mode: {self.mode!r} is no file mode, such as '0660'"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How a worker writes its logs: in which *format*, and from which *level* on."""

    format: LogFormat = "console"
    level: LogLevel = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionConfig:
    """Where the keys are by which payloads are sealed; see `Encryption.from_file`."""

    keys_file: str | None = None

    def load(self) -> Encryption | None:
        """Return the keys of the file, None without one.

        Raises:
            ConfigError: They cannot be read.
        """
        return None if self.keys_file is None else Encryption.from_file(Path(self.keys_file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration of a worker or a client.

    An empty *dsn* leaves everything to libpq's own variables and defaults.  *direct_dsn* is for
    LISTEN, replication and migration, which go through no pooler; None is *dsn*.
    """

    dsn: str = ""
    direct_dsn: str | None = None
    pool: PoolConfig = field(default_factory=PoolConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    namespaces: Mapping[str, NamespaceConfig] = field(default_factory=dict)
    task_retention: Annotated[timedelta, "1h to 36500d"] = timedelta(days=30)
    key_ttl: Annotated[timedelta, "1m to 36500d"] = timedelta(days=7)
    audit_retention: Annotated[timedelta, "1d to 36500d"] = timedelta(days=365)
    log: LogConfig = field(default_factory=LogConfig)
    encryption: EncryptionConfig = field(default_factory=EncryptionConfig)

    def __post_init__(self) -> None:
        if self.key_ttl > self.task_retention:
            ttl, retention = to_plain(self.key_ttl), to_plain(self.task_retention)
            msg = f"key_ttl, {ttl}, must be at most task_retention, {retention}"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration with where it came from: *plain* is what was given, and by whom, by path.

    What is in *plain* and has no origin of its own stands in *file*.
    """

    config: Config
    file: Path | None
    plain: Mapping[str, object]
    origins: Mapping[str, str]


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    profile: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Return the configuration: the file, its profile, the environment, *overrides*, in this order.

    Without *path* the file is that of PGPROG_CONFIG, or ./pgprog.yaml if there is one.  Without
    *profile* it is that of PGPROG_PROFILE, or none.  *overrides* has dotted paths as keys, and
    one that is None says nothing.  Profiles that are not chosen are checked too.

    Raises:
        ConfigError: There are faults; the message lists all of them with path, value and range.
    """
    loaded = load_with_origins(path, environ=environ, profile=profile, overrides=overrides)
    return loaded.config


def load_with_origins(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    profile: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Loaded:
    """Return the configuration as `load` does, and where each value of it came from.

    Raises:
        ConfigError: As `load`.
    """
    file = find_file(path, environ=environ)
    base = dict({} if file is None else read_file(file))
    profiles = base.pop("profiles", None)
    chosen = profile or environ.get("PGPROG_PROFILE") or None
    reader = Reader()
    check_variables(environ, class_=Config, reader=reader)
    layers = with_profiles(Layers(base), profiles, chosen=chosen, class_=Config, reader=reader)
    layers = with_environ(layers, environ, class_=Config)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            layers = layers.under_value(dotted, value, origin="the command line")
    read = reader.read(Config, layers.plain, origins=layers.origins)
    config = reader.checked(read, where="the configuration" if file is None else str(file))
    return Loaded(config=config, file=file, plain=layers.plain, origins=layers.origins)

"""The configuration: read once, checked as a whole, frozen, passed down.

The dataclasses are the schema of the file; an annotation with a text says the range.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pgprog.config.schema import Reader, to_plain
from pgprog.config.settings import CacheSettings, NamespaceSettings, RetryOverride
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

__all__ = [
    "CacheSettings",
    "Config",
    "EncryptionConfig",
    "Loaded",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "NamespaceConfig",
    "NamespaceSettings",
    "PoolConfig",
    "ReaderConfig",
    "RetryOverride",
    "Wakeups",
    "WorkerConfig",
    "from_code",
    "load",
    "load_access",
    "load_with_origins",
]

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Wakeups = Literal["poll", "notify", "stream"]

_ACCESS = frozenset({"dsn", "direct_dsn", "encryption", "reader"})
_MODE = re.compile(r"0?[0-7]{3}")
_HANDLERS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


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
    """How many connections each part may hold, and how long it waits for a free one.

    By those of *engine* a worker commits the ends of its steps, beside some others that it always
    has: with one, PostgreSQL waits for Python in between; more than two serve a distant database.
    """

    engine: Annotated[int, "1 to 1000"] = 2
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


def from_code(**values: object) -> Config:
    """Return the configuration of a program that gives it by itself; None is the default.

    Values are read as those of the file are, instances of the dataclasses here, too.

    Raises:
        ConfigError: There are faults; the message lists all of them with path, value and range.
    """
    reader = Reader()
    given = {key: value for key, value in values.items() if value is not None}
    return reader.checked(reader.read_fields(Config, given, path=""), where="what was given")


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
    reader = Reader()
    check_variables(environ, class_=Config, reader=reader)
    layers = _layers(file, environ=environ, profile=profile, reader=reader)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            layers = layers.under_value(dotted, value, origin="the command line")
    return _checked(layers, file=file, reader=reader)


def load_access(*, environ: Mapping[str, str]) -> Loaded:
    """Return of the configuration only what leads to the database and reads what is there.

    Faults elsewhere in it keep nobody from looking.

    Raises:
        ConfigError: The file cannot be read, or there are faults in what is returned.
    """
    file = find_file(None, environ=environ)
    layers = _layers(file, environ=environ, profile=None, reader=Reader())
    access = {key: value for key, value in layers.plain.items() if key in _ACCESS}
    return _checked(Layers(access, layers.origins), file=file, reader=Reader())


def _layers(
    file: Path | None, *, environ: Mapping[str, str], profile: str | None, reader: Reader
) -> Layers:
    base = dict({} if file is None else read_file(file))
    profiles = base.pop("profiles", None)
    chosen = profile or environ.get("PGPROG_PROFILE") or None
    layers = with_profiles(Layers(base), profiles, chosen=chosen, class_=Config, reader=reader)
    return with_environ(layers, environ, class_=Config)


def _checked(layers: Layers, *, file: Path | None, reader: Reader) -> Loaded:
    read = reader.read(Config, layers.plain, origins=layers.origins)
    config = reader.checked(read, where="the configuration" if file is None else str(file))
    return Loaded(config=config, file=file, plain=layers.plain, origins=layers.origins)

import dataclasses
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgprog import Engine
from pgprog.config import CacheSettings, Config, NamespaceSettings, WorkerConfig, load
from pgprog.config.schema import Reader, hints_of, is_section, scalar_of
from pgprog.config.units import format_duration, format_size, parse_duration, parse_size
from pgprog.errors import ConfigError
from pgprog.model import Limits, TaskType
from pgprog.retry import RetryPolicy

EXAMPLE = """
dsn: postgresql://app@db/orders
direct_dsn: null
pool: {engine: 5, api: 10, transactions: 10, checkout_timeout: 5s}
worker: {concurrency: 100, processes: 1, poll_every: 1s, lease: 10s, heartbeat_every: 2s,
         stop_timeout: 30s}
namespaces:
  orders:
    handlers: shop.orders:orders
    concurrency: null
    step_timeout: 45s
    isolation: process
    history: full
    retention: 30d
    max_queue: 100000
    on_full: drop_lowest
    on_call_error: reject
    retry: {initial_interval: 10ms, backoff_coefficient: 3, max_interval: 1h30m, max_attempts: 5,
            non_retryable: [Gone, closed]}
    retry_by_type: {call: {max_attempts: 2}}
    cache: {enabled: true, ttl: 5m, max_bytes: 128MiB, max_lag: 1s, wait: 10ms, reconnect: 5s}
    limits: {args_bytes: 2MiB}
task_retention: 30d
key_ttl: 7d
profiles:
  dev: {worker: {concurrency: 5}, dsn: postgresql://dev}
  calm:
"""

Loader = Callable[..., Config]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.fixture
def read(tmp_path: Path) -> Loader:
    def read(text: str, **given: Any) -> Config:
        path = tmp_path / "some.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, **{"environ": {}, **given})

    return read


def faults(read: Loader, text: str, **given: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **given)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


# ---- Durations and sizes ----


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("250us", timedelta(microseconds=250)),
        ("10ms", timedelta(milliseconds=10)),
        ("5s", timedelta(seconds=5)),
        ("3m", timedelta(minutes=3)),
        ("36h", timedelta(hours=36)),
        ("30d", timedelta(days=30)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1.5s", timedelta(milliseconds=1500)),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "5sec", "-5s", "5S", "1e3s", "٣s", "5s ", "99999999999d", "5s5"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512B", 512), ("64KiB", 65536), ("256MiB", 2**28), ("2GiB", 2**31)],
)
def test_a_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert format_size(size) == text


@pytest.mark.parametrize("text", ["", "5", "1kB", "1MB", "1.5MiB", "MiB", "-1B", "1 MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


# ---- The file ----


def test_the_example_of_the_specification_is_read_key_by_key(read: Loader) -> None:
    config = read(EXAMPLE)
    orders = config.namespaces["orders"]

    assert (config.dsn, config.direct_dsn) == ("postgresql://app@db/orders", None)
    assert (config.pool.engine, config.pool.checkout_timeout) == (5, seconds(5))
    assert (config.worker.concurrency, config.worker.lease) == (100, seconds(10))
    assert (config.task_retention, config.key_ttl) == (timedelta(days=30), timedelta(days=7))
    assert orders.handlers == "shop.orders:orders"
    assert orders.settings == NamespaceSettings(
        step_timeout=seconds(45),
        isolation="process",
        history="full",
        on_full="drop_lowest",
        on_call_error="reject",
        retry=RetryPolicy(
            initial_interval=seconds(0.01),
            backoff_coefficient=3.0,
            max_interval=seconds(5400),
            max_attempts=5,
            non_retryable=frozenset({"Gone", "closed"}),
        ),
        retry_by_type=orders.settings.retry_by_type,
        cache=CacheSettings(enabled=True, max_bytes=128 << 20),
        limits=Limits(args_bytes=2 << 20),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "worker:\npool:\nnamespaces:\nprofiles:\n"])
def test_what_is_not_said_is_as_in_the_specification(read: Loader, text: str) -> None:
    assert read(text) == Config()
    assert Config().worker.concurrency == 100
    assert NamespaceSettings().step_timeout == seconds(30)
    assert NamespaceSettings().max_queue == 100_000


def test_every_default_is_within_its_range() -> None:
    def check(class_: type, value: object) -> None:
        for name, hint in hints_of(class_).items():
            item = getattr(value, name)
            if is_section(hint):
                check(hint, item)
            elif not isinstance(item, Mapping):
                assert scalar_of(hint).parse(item) == item, name

    check(Config, Config())
    check(NamespaceSettings, NamespaceSettings())


def test_without_a_path_the_file_of_the_environment_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("dsn: from the file")

    assert load(environ={"PGPROG_CONFIG": str(tmp_path / "a.yaml")}).dsn == "from the file"


def test_without_a_path_the_file_of_the_directory_is_read_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absent = load(environ={})
    (tmp_path / "pgprog.yaml").write_text("dsn: from the directory")
    present = load(environ={})

    assert (absent.dsn, present.dsn) == ("", "from the directory")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("- 1", "holds list, not sections with keys"),
        ("dsn: a\ndsn: b", "the key dsn stands twice"),
        ("worker: {lease: 5s, lease: 6s}", "the key lease stands twice"),
        ("? [a]\n: 1", "is not YAML"),
        ("a: 1\nb: 2027-02-29", "is not YAML: day is out of range for month, line 2, column 4"),
        ("a: " + "[" * 10_000 + "]" * 10_000, "is not YAML: it is nested too deeply, line 1, col"),
        ("worker: &w {lease: *w}", "is not YAML: it is nested in itself, line 1, column 9"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(read: Loader, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent.yaml: No such file"):
        load(tmp_path / "absent.yaml", environ={})


def test_a_merged_key_of_yaml_is_no_repetition(read: Loader) -> None:
    text = "x: &x {lease: 20s}\nworker: {<<: *x, lease: 30s}\n"

    known = (
        "dsn, direct_dsn, pool, worker, reader, namespaces, task_retention, key_ttl,"
        " audit_retention, log, encryption"
    )
    assert faults(read, text) == [f"x: unknown; known: {known}"]


# ---- Faults ----


def test_a_section_is_no_list(read: Loader) -> None:
    text = "namespaces: {orders: {handlers: 'shop:orders', roles: {orders_app: false}}}"

    fault = "namespaces.orders.roles: {'orders_app': False} is not a list of texts or null"
    assert faults(read, text) == [fault]


def test_all_faults_are_listed_at_once_with_path_value_and_range(read: Loader) -> None:
    text = """
wroker: {}
worker: {concurency: 1, lease: 10 parsecs, processes: 0}
pool: 7
namespaces:
  orders:
    handlers: shop orders
    concurrency: 0
    max_queue: many
    on_full: explode
    history: -1
    retry: {max_attempts: 0, jitter: .nan, non_retryable: Gone}
    retry_by_type: {cal: {max_attempts: 1}, call: {max_attempt: 1}}
    cache: {max_bytes: 1kB, enabled: 1}
    limits: {id_bytes: 2KiB, events: true}
  empty:
key_ttl: 60d
"""

    assert sorted(faults(read, text)) == sorted(
        [
            "wroker: unknown; did you mean worker?",
            "worker.concurency: unknown; did you mean concurrency?",
            "worker.lease: '10 parsecs' is not a duration from 1s to 1h",
            "worker.processes: 0 is not a whole number from 1 to 1024",
            "pool: 7 is not a section with keys",
            "namespaces.orders.handlers: 'shop orders' is not module:name, such as shop:orders",
            "namespaces.orders.concurrency: 0 is not a whole number from 1 to 1000000 or null",
            "namespaces.orders.max_queue: 'many' is not a whole number from 1 to 1000000000",
            "namespaces.orders.on_full: 'explode' is not refuse or drop_lowest",
            "namespaces.orders.history: -1 is not a whole number from 0 to 100000 or full",
            "namespaces.orders.retry.max_attempts: 0 is not a whole number from 1 to 1000000",
            "namespaces.orders.retry.jitter: nan is not a number from 0 to 1",
            "namespaces.orders.retry.non_retryable: 'Gone' is not a list of texts",
            f"namespaces.orders.retry_by_type.cal: 'cal' is not {' or '.join(TaskType)}",
            "namespaces.orders.retry_by_type.call.max_attempt: unknown; did you mean max_attempts?",
            "namespaces.orders.cache.max_bytes: '1kB' is not a size from 1MiB to 1024GiB",
            "namespaces.orders.cache.enabled: 1 is not true or false",
            "namespaces.orders.limits.id_bytes: '2KiB' is not a size from 1B to 1KiB",
            "namespaces.orders.limits.events: True is not a whole number from 1 to 100000",
            "namespaces.empty.handlers: None is not module:name, such as shop:orders",
            "key_ttl, 60d, must be at most task_retention, 30d",
        ]
    )


def test_the_message_says_how_many_faults_there_are_and_where(read: Loader) -> None:
    with pytest.raises(ConfigError, match=r"^1 fault in .*some.yaml:\n  dsn: 5 is not text$"):
        read("dsn: 5")
    with pytest.raises(ConfigError, match=r"^2 faults in the configuration:\n"):
        load(environ={}, overrides={"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("worker: {lease: 999ms}", "worker.lease: '999ms' is not a duration from 1s to 1h"),
        ("worker: {lease: 3601s}", "worker.lease: '3601s' is not a duration from 1s to 1h"),
        ("worker: {lease: 10}", "worker.lease: 10 is not a duration from 1s to 1h"),
        ("worker: {lease: null}", "worker.lease: None is not a duration from 1s to 1h"),
        ("pool: {api: '5'}", "pool.api: '5' is not a whole number from 1 to 1000"),
        ("pool: {api: 5.0}", "pool.api: 5.0 is not a whole number from 1 to 1000"),
        ("profiles: 7", "profiles: 7 is not a section with keys"),
        ("profiles: {dev: 'host=h password=x'}", "profiles.dev: a text is not a section with keys"),
        ("namespaces: [a]", "namespaces: ['a'] is not a section with keys"),
    ],
)
def test_a_value_out_of_its_range_or_of_another_kind_is_refused(
    read: Loader, text: str, fault: str
) -> None:
    assert faults(read, text) == [fault]


@pytest.mark.parametrize("value", ["1s", "1h", "1m"])
def test_the_ends_of_a_range_belong_to_it(read: Loader, value: Any) -> None:
    config = read(f"worker: {{lease: {value}, heartbeat_every: 100ms}}")

    assert config.worker.lease == parse_duration(value)


def test_a_heartbeat_must_fit_twice_into_a_lease(read: Loader) -> None:
    found = faults(read, "worker: {lease: 4s, heartbeat_every: 2001ms}")

    assert found == ["worker: heartbeat_every, 2001ms, must be at most half of lease, 4s"]


@pytest.mark.parametrize("handlers", ["shop:orders", "shop.a.b:orders.c", "_a:_b1"])
def test_handlers_are_a_module_and_a_name(read: Loader, handlers: str) -> None:
    text = f"namespaces: {{a/b: {{handlers: '{handlers}'}}}}"

    assert read(text).namespaces["a/b"].handlers == handlers


@pytest.mark.parametrize(
    "handlers", ["shop", "shop:", ":a", "a-b:c", "a b:c", "1a:b", "a:b:c", "a.:b"]
)
def test_handlers_that_cannot_be_imported_are_refused(read: Loader, handlers: str) -> None:
    [fault] = faults(read, f"namespaces: {{orders: {{handlers: '{handlers}'}}}}")

    assert (
        fault == f"namespaces.orders.handlers: {handlers!r} is not module:name, such as shop:orders"
    )


# ---- Profiles, environment, flags ----


def test_a_profile_overlays_the_file(read: Loader) -> None:
    config = read(EXAMPLE, profile="dev")

    assert config.worker.concurrency == 5
    assert config.worker.stop_timeout == seconds(30)
    assert config.dsn == "postgresql://dev"


def test_the_environment_may_choose_the_profile_and_the_caller_has_the_last_word(
    read: Loader,
) -> None:
    environ = {"PGPROG_PROFILE": "dev"}

    assert read(EXAMPLE, environ=environ).worker.concurrency == 5
    assert read(EXAMPLE, environ=environ, profile="calm").worker.concurrency == 100


def test_a_profile_that_is_not_there_is_refused_with_those_that_are(read: Loader) -> None:
    assert faults(read, EXAMPLE, profile="prod") == [
        "profiles: there is no profile 'prod'; known: dev, calm"
    ]


def test_profiles_that_are_not_chosen_are_checked_too(read: Loader) -> None:
    text = "dsn: 5\nprofiles: {a: {pool: {egine: 1}}, b: {worker: {lease: 1d}}, c: 3}"

    assert sorted(faults(read, text, profile="b")) == [
        "dsn: 5 is not text",
        "pool.egine (from profile a): unknown; did you mean engine?",
        "profiles.c: 3 is not a section with keys",
        "worker.lease (from profile b): '1d' is not a duration from 1s to 1h",
    ]


def test_flags_go_before_the_environment_and_that_before_a_profile_and_that_before_the_file(
    read: Loader,
) -> None:
    text = """
pool: {engine: 1, api: 1, transactions: 1}
worker: {concurrency: 1}
profiles: {p: {pool: {engine: 2, api: 2, transactions: 2}}}
"""
    environ = {"PGPROG_POOL_API": "3", "PGPROG_POOL_TRANSACTIONS": "3"}

    config = read(text, profile="p", environ=environ, overrides={"pool.transactions": 4})

    pool = config.pool
    assert config.worker.concurrency == 1
    assert (pool.engine, pool.api, pool.transactions) == (2, 3, 4)


def test_the_environment_reaches_every_field_but_those_of_namespaces(read: Loader) -> None:
    environ = {
        "PGPROG_DSN": "host=db password='a: #b'",
        "PGPROG_DIRECT_DSN": "5",
        "PGPROG_TASK_RETENTION": "40d",
        "PGPROG_WORKER_CONCURRENCY": "7",
        "PGPROG_WORKER_LEASE": "20s",
        "PGPROG_POOL_CHECKOUT_TIMEOUT": "1m",
        "PGPROG_LOG_FORMAT": "json",
        "PGPROG_LOG_LEVEL": "debug",
    }

    config = read("", environ=environ)

    assert (config.dsn, config.direct_dsn) == ("host=db password='a: #b'", "5")
    assert config.task_retention == timedelta(days=40)
    assert (config.worker.concurrency, config.worker.lease) == (7, seconds(20))
    assert config.pool.checkout_timeout == seconds(60)


def test_an_empty_variable_says_nothing(read: Loader) -> None:
    environ = {"PGPROG_DSN": "", "PGPROG_POOL_API": "", "PGPROG_PROFILE": "", "PGPROG_CONFIG": ""}

    assert read("dsn: a", environ=environ).dsn == "a"


def test_a_fault_names_the_variable_or_the_flag_it_came_from(read: Loader) -> None:
    environ = {"PGPROG_WORKER_LEASE": "a: b: c", "PGPROG_POOL_API": "none"}

    assert faults(read, "", environ=environ, overrides={"worker.processes": "x"}) == [
        "pool.api (from PGPROG_POOL_API): 'none' is not a whole number from 1 to 1000",
        "worker.processes (from the command line): 'x' is not a whole number from 1 to 1024",
        "worker.lease (from PGPROG_WORKER_LEASE): 'a: b: c' is not a duration from 1s to 1h",
    ]


def test_a_dsn_that_holds_what_no_connection_can_is_refused_and_not_repeated(read: Loader) -> None:
    text = r'dsn: "postgresql://app:sesame@db/sh\0op"'
    environ = {"PGPROG_DIRECT_DSN": "postgresql://app:sesame@db/caf\udce9"}

    assert faults(read, text, environ=environ) == [
        "dsn: it holds a NUL character",
        "direct_dsn (from PGPROG_DIRECT_DSN): it holds the lone surrogate U+DCE9",
    ]
    assert faults(read, r'profiles: {dev: {dsn: "host=db password=sesame\uD800"}}') == [
        "dsn (from profile dev): it holds the lone surrogate U+D800"
    ]


def test_a_variable_that_looks_like_a_section_but_is_none_is_refused(read: Loader) -> None:
    environ = {"PGPROG_WORKER_CONCURENCY": "5", "PGPROG_TEST_DSN": "x", "HOME": "/"}

    assert faults(read, "", environ=environ) == [
        "PGPROG_WORKER_CONCURENCY: unknown; did you mean PGPROG_WORKER_CONCURRENCY?"
    ]


def test_a_flag_that_was_not_given_says_nothing(read: Loader) -> None:
    config = read("dsn: a", overrides={"dsn": None, "worker.concurrency": None})

    assert config.dsn == "a"


# ---- Settings of a namespace ----


def test_settings_come_back_from_json_as_they_were() -> None:
    settings = NamespaceSettings.from_json(
        {
            "concurrency": 5,
            "step_timeout": "1500ms",
            "history": "full",
            "retry": {"non_retryable": ["b", "a"]},
            "retry_by_type": {"call": {"max_attempts": 2}, "timeout": {"jitter": 0}},
            "limits": {"args_bytes": "2MiB"},
        }
    )

    assert NamespaceSettings.from_json(settings.to_json()) == settings


def test_settings_as_json_are_what_the_database_reads() -> None:
    plain = NamespaceSettings().to_json()

    assert plain["timer_patience"] == "1m"
    assert plain["retention"] == "30d"
    assert plain["max_queue"] == 100000
    assert "concurrency" not in plain
    assert plain["limits"] == dataclasses.asdict(Limits())


def test_settings_in_code_may_have_their_python_types() -> None:
    settings = NamespaceSettings.from_json(
        {
            "step_timeout": seconds(5),
            "retry": RetryPolicy(max_attempts=9),
            "cache": CacheSettings(enabled=True),
            "retry_by_type": {TaskType.CALL: RetryPolicy(max_attempts=4)},
        }
    )

    assert settings.step_timeout == seconds(5)
    assert settings.retry.max_attempts == 9
    assert settings.cache.enabled
    assert settings.retry_for(TaskType.CALL).max_attempts == 4


def test_a_policy_made_in_code_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"retry.max_attempts: 0 is not a whole number from 1"):
        NamespaceSettings.from_json({"retry": RetryPolicy(max_attempts=0)})


@pytest.mark.parametrize(
    ("type_", "attempts"),
    [
        (TaskType.INIT, 1),
        (TaskType.CALL, 1),
        (TaskType.REPAIR, 1),
        (TaskType.NOTIFY, 7),
        (TaskType.TIMEOUT, 7),
        (TaskType.REMOVE, 7),
    ],
)
def test_what_somebody_waits_for_has_one_attempt(type_: Any, attempts: int) -> None:
    settings = NamespaceSettings(retry=RetryPolicy(max_attempts=7))

    assert settings.retry_for(type_).max_attempts == attempts


def test_a_policy_of_one_type_takes_the_rest_from_the_namespace() -> None:
    settings = NamespaceSettings.from_json(
        {
            "retry": {"initial_interval": "1s", "max_attempts": 7},
            "retry_by_type": {"call": {"max_attempts": 2}, "init": {"jitter": 0.5}},
        }
    )

    assert settings.retry_for(TaskType.CALL) == RetryPolicy(
        initial_interval=seconds(1), max_attempts=2
    )
    assert settings.retry_for(TaskType.INIT).max_attempts == 1
    assert settings.retry_for(TaskType.INIT).jitter == 0.5


def test_the_file_goes_before_settings_in_code_key_by_key(read: Loader) -> None:
    text = """
namespaces:
  orders:
    handlers: a:b
    concurrency: null
    retry: {max_attempts: 9}
    cache:
"""
    in_code = NamespaceSettings.from_json(
        {
            "concurrency": 3,
            "max_queue": 5,
            "retry": {"initial_interval": "1s", "max_attempts": 2},
            "cache": {"enabled": True},
        }
    )

    settings = read(text).namespaces["orders"].over(in_code)

    assert settings.concurrency is None
    assert settings.max_queue == 5
    assert settings.retry == RetryPolicy(initial_interval=seconds(1), max_attempts=9)
    assert settings.cache.enabled


def test_what_has_faults_is_not_built() -> None:
    reader = Reader()

    assert reader.read_fields(Config, {"pool": {"api": 0}}, path="") is None
    assert len(reader.faults) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("http", "127.0.0.1:9100"), ("processes", 2), ("memory_limit", 1 << 30)]
)
def test_an_engine_refuses_what_only_a_worker_of_its_own_obeys(name: str, value: Any) -> None:
    worker = dataclasses.replace(WorkerConfig(), **{name: value})

    with pytest.raises(
        ConfigError, match=rf"^worker\.{name}: only `pgprog worker` obeys"
    ) as caught:
        Engine("", [], worker=worker)
    assert caught.value.hint

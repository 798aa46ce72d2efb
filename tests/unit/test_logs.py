import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog

import pgprog
from pgprog import logs
from pgprog.config import LogFormat
from pgprog.model import TaskType


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    ours, root = logging.getLogger("pgprog"), logging.getLogger()
    before = ours.level, list(root.handlers)
    yield io.StringIO()
    ours.setLevel(before[0])
    root.handlers = before[1]
    structlog.reset_defaults()


def open_missing() -> None:
    msg = "no disk"
    raise OSError(msg)


def written(stream: io.StringIO) -> dict[str, object]:
    line: dict[str, object] = json.loads(stream.getvalue())
    return line


def test_a_json_line_is_an_event_with_its_fields(stream: io.StringIO) -> None:
    logs.configure(format="json", stream=stream)
    logs.get("pgprog.engine").info(
        "claim_taken", took=timedelta(milliseconds=1500), task_id=17, namespace="orders"
    )

    line = written(stream)

    assert datetime.fromisoformat(str(line.pop("at"))).tzinfo == UTC
    assert line == {
        "level": "info",
        "event": "claim_taken",
        "logger": "pgprog.engine",
        "namespace": "orders",
        "task_id": 17,
        "took": 1.5,
    }


def test_what_identifies_a_line_stands_first_whatever_the_order_given(stream: io.StringIO) -> None:
    logs.configure(format="json", stream=stream)
    logs.get("pgprog").info("x", took=1, attempt=2, task_id=3, process_id="p", namespace="n")

    assert list(written(stream))[4:] == ["namespace", "process_id", "task_id", "attempt", "took"]


def test_a_console_line_quotes_what_is_not_one_word(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logs.get("pgprog").warning(
        "x", name="pay", type=TaskType.CALL, process_id='a "b"\n', ok=True, ids=[1, 2]
    )

    line = stream.getvalue().split("WARNING")[1]

    assert line == ' x process_id="a \\"b\\"\\n" type=call name=pay ok=true ids=[1,2]\n'


def test_a_terminal_obeys_nothing_of_a_console_line(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logs.get("pgprog.engine").warning(
        "step_failed", process_id="\x9b31mo-1", error=RuntimeError("\x1b[2Jno\tpaper\r")
    )
    logging.getLogger("stranger").warning("gone\x1b]0;\x07")

    assert r"process_id=\x9b31mo-1" in stream.getvalue().replace('"', "")
    assert "RuntimeError: \\x1b[2Jno\tpaper\\r\n" in stream.getvalue()
    assert r"gone\x1b]0;\x07" in stream.getvalue()


def test_a_field_that_is_not_known_is_left_out(stream: io.StringIO) -> None:
    logs.configure(format="json", stream=stream)
    logs.get("pgprog").info("x", trace_id=None)

    assert "trace_id" not in written(stream)


@pytest.mark.parametrize("field", ["args", "state", "payload", "response", "context", "metadata"])
def test_a_payload_is_refused_whatever_the_level(field: str) -> None:
    log = logs.get("pgprog.silent")

    with pytest.raises(ValueError, match=f"the event step_failed may not have the fields {field}"):
        log.debug("step_failed", **{field: "secret"})


@pytest.mark.parametrize("field", ["at", "level", "event", "logger", "exception"])
def test_a_field_cannot_take_the_place_of_what_every_line_has(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        logs.get("pgprog").info("x", **{field: 1})


@pytest.mark.parametrize("format_", ["console", "json"])
def test_an_error_is_written_with_its_traceback(stream: io.StringIO, format_: LogFormat) -> None:
    logs.configure(format=format_, stream=stream)
    try:
        open_missing()
    except OSError as e:
        logs.get("pgprog").error("flush_failed", error=e)

    assert "Traceback (most recent call last)" in stream.getvalue()
    assert "in open_missing" in stream.getvalue()
    assert "OSError: no disk" in stream.getvalue()


def test_the_level_can_be_changed_at_run_time(stream: io.StringIO) -> None:
    logs.configure(stream=stream, level="warning")
    logs.get("pgprog.a").info("before")
    logs.set_level("DEBUG")
    logs.get("pgprog.a").debug("after")

    assert "before" not in stream.getvalue()
    assert "after" in stream.getvalue()


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        logs.set_level("loud")


def test_configuring_again_replaces_only_what_it_set_up(stream: io.StringIO) -> None:
    foreign = logging.NullHandler()
    logging.getLogger().addHandler(foreign)
    logs.configure(stream=stream)
    logs.configure(stream=stream)
    logs.get("pgprog").info("once")

    assert stream.getvalue().count("once") == 1
    assert foreign in logging.getLogger().handlers


def test_warnings_of_other_packages_have_the_same_form(stream: io.StringIO) -> None:
    logs.configure(format="json", stream=stream)
    logging.getLogger("psycopg.pool").warning("no %s", "connection")

    assert written(stream)["event"] == "no connection"


def test_a_text_that_is_no_unicode_does_not_stop_the_log(stream: io.StringIO) -> None:
    logs.configure(format="json", stream=stream)
    logs.get("pgprog").info("x", process_id="\ud800")

    assert stream.getvalue().isascii()
    assert written(stream)["process_id"] == "\ud800"


def test_a_record_knows_the_line_that_wrote_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="pgprog"):
        logs.get("pgprog").info("x", task_id=1)

    [record] = caplog.records
    assert record.funcName == "test_a_record_knows_the_line_that_wrote_it"
    assert vars(record)["fields"] == {"task_id": 1}


def test_what_handlers_log_by_structlog_joins_in(stream: io.StringIO) -> None:
    logs.configure(format="json", stream=stream)
    structlog.get_logger("shop").warning("paid %s", "twice", task_id=7, order="o-1")

    line = written(stream)
    assert (line["event"], line["logger"], line["level"]) == ("paid twice", "shop", "warning")
    assert list(line)[4:] == ["task_id", "order"]


def test_a_structlog_that_the_program_has_set_up_stays(stream: io.StringIO) -> None:
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    before = structlog.get_config()

    logs.configure(stream=stream)

    assert structlog.get_config() == before


def test_a_traceback_shows_no_values(stream: io.StringIO) -> None:
    secret = "planted"
    logs.configure(format="json", stream=stream)
    try:
        open_missing()
    except OSError as e:
        logs.get("pgprog").error("flush_failed", error=e)

    assert "open_missing()" in stream.getvalue()
    assert secret not in stream.getvalue()


def test_a_host_may_give_its_own_records_the_fields_of_steps(stream: io.StringIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.addFilter(logs.StepFields())
    handler.setFormatter(logging.Formatter("%(message)s %(fields)s"))
    logging.getLogger().addHandler(handler)
    with pgprog.carry(correlation_id="req-1"):
        logging.getLogger("shop").warning("paid")

    assert stream.getvalue() == "paid {'correlation_id': 'req-1'}\n"

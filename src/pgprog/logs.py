"""Structured logs: the name of an event and its fields, on the standard library's logging.

    log = logs.get(__name__)
    log.info("claim_taken", namespace="orders", process_id="o-1", task_id=17)

What is logged within a step says of which by itself.  A payload is never logged: a field that would
hold one is refused where it is written, whatever the level.  A program that embeds pgprog and sets
up logging by itself sees ordinary records; their message is the event, their fields are in
`LogRecord.fields`, and `StepFields` gives them to its own records.  Only the programs of pgprog
call `configure`, and only that imports structlog, which writes the lines.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pgprog.current import current

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from structlog.typing import EventDict

    from pgprog.config import LogFormat

# What identifies a line, in the order in which it is looked for; other fields follow as given.
_FIRST = (
    "namespace",
    "process_id",
    "task_id",
    "type",
    "name",
    "attempt",
    "worker_id",
    "trace_id",
    "correlation_id",
)
_PAYLOADS = frozenset({"args", "context", "metadata", "payload", "response", "state"})
_OWN = frozenset({"at", "level", "event", "logger", "exception"})
_BARE = re.compile(r"[\w./:+-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and ends of lines


class Log:
    """Writes the events of one module.

    An ERROR means that a person must act.  Fields that are None are unknown and left out.

    Raises:
        ValueError: A field is a payload's, or one of those that every line has by itself.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **fields: object) -> None:
        """Write what only a developer of pgprog asks for."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Write what happened as it should."""
        self._write(logging.INFO, event, fields)

    def warning(
        self, event: str, /, *, error: BaseException | None = None, **fields: object
    ) -> None:
        """Write what went wrong and mends itself; *error* is written with its traceback."""
        self._write(logging.WARNING, event, fields, error=error)

    def error(self, event: str, /, *, error: BaseException | None = None, **fields: object) -> None:
        """Write what a person must mend; *error* is written with its traceback."""
        self._write(logging.ERROR, event, fields, error=error)

    def _write(
        self,
        level: int,
        event: str,
        fields: Mapping[str, object],
        *,
        error: BaseException | None = None,
    ) -> None:
        if not (_PAYLOADS.isdisjoint(fields) and _OWN.isdisjoint(fields)):
            refused = ", ".join(sorted(fields.keys() & (_PAYLOADS | _OWN)))
            msg = f"the event {event} may not have the fields {refused}"
            raise ValueError(msg)
        if self._logger.isEnabledFor(level):
            extra = {"fields": _ordered({**current.get().fields(), **fields})}
            # Three frames up is the caller of info() and its like.
            self._logger.log(level, "%s", event, exc_info=error, extra=extra, stacklevel=3)


class StepFields(logging.Filter):
    """Gives every record of a handler of logging the fields of the step that it was written in.

    For programs that set up logging by themselves: `handler.addFilter(StepFields())`.  They are in
    `LogRecord.fields`, a dict, which is empty outside of steps.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through."""
        if not hasattr(record, "fields"):
            record.fields = _ordered(current.get().fields())
        return True


def get(name: str) -> Log:
    """Return the log of the module called *name*."""
    return Log(logging.getLogger(name))


def configure(
    *,
    format: LogFormat = "console",  # noqa: A002 - what it is, and nobody formats here
    level: int | str = "info",
    stream: TextIO | None = None,
) -> None:
    """Send every log of this program to *stream* (the standard error), one line an event.

    *level* is pgprog's; of other packages only warnings and errors are shown, unless their loggers
    have levels of their own.  What handlers write by structlog itself joins in, unless they have
    set that up.  Calling it again replaces what the last call set up, and nothing else.
    """
    # Here, because it takes a tenth of a second, which programs that embed pgprog need not spend.
    import structlog  # noqa: PLC0415

    handler = _Handler(sys.stderr if stream is None else stream, format)
    handler.addFilter(StepFields())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.processors.format_exc_info,  # without the values of variables
                _line,
                _json_text if format == "json" else _console_text,
            ],
        )
    )
    root = logging.getLogger()
    for earlier in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )
    set_level(level)


def configured() -> tuple[LogFormat, int]:
    """Return the format that `configure` was given, and the level of pgprog's logs.

    The format is console's in a program that sets up logging by itself.
    """
    formats = [each.format_ for each in logging.getLogger().handlers if isinstance(each, _Handler)]
    return (*formats, "console")[0], logging.getLogger("pgprog").getEffectiveLevel()


def set_level(level: int | str) -> None:
    """Change the level of pgprog's logs; it may be called at any time.

    Raises:
        ValueError: There is no such level.
    """
    logging.getLogger("pgprog").setLevel(level.upper() if isinstance(level, str) else level)


class _Handler(logging.StreamHandler["TextIO"]):
    """The handler that `configure` put there, so that it finds it again."""

    def __init__(self, stream: TextIO, format_: LogFormat) -> None:
        super().__init__(stream)
        self.format_ = format_


def _line(_logger: object, _method: str, written: EventDict) -> EventDict:
    """Return what a line says, in its order: when, what and where, the step, then all the rest."""
    record: logging.LogRecord = written.pop("_record")
    del written["_from_structlog"]
    fields = getattr(record, "fields", {})
    line = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": written.pop("event"),
        "logger": record.name,
    }
    exception = {key: written.pop(key) for key in ("exception",) if key in written}
    rest = {key: value for key, value in written.items() if key not in line}
    return {**line, **_ordered({**fields, **rest}), **exception}


def _json_text(_logger: object, _method: str, line: EventDict) -> str:
    return _writable(json.dumps(line, ensure_ascii=False, default=_plain))


def _console_text(_logger: object, _method: str, line: EventDict) -> str:
    """Return a line for people; a terminal obeys nothing of it."""
    at, level, event = line.pop("at"), line.pop("level").upper(), str(line.pop("event"))
    del line["logger"]
    exception = line.pop("exception", None)
    fields = "".join(f" {key}={_shown(value)}" for key, value in line.items())
    text = f"{at} {level:<7} {event}{fields}"
    text = text if exception is None else f"{text}\n{exception}"
    return _writable(_CONTROL.sub(lambda found: repr(found[0])[1:-1], text))


def _ordered(fields: Mapping[str, object]) -> dict[str, object]:
    first = {key: fields[key] for key in _FIRST if key in fields}
    return {key: value for key, value in {**first, **fields}.items() if value is not None}


def _shown(value: object) -> str:
    """Return *value* as one word: a text without its quotes where it needs none."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text[1:-1] if _BARE.fullmatch(text[1:-1]) and text.startswith('"') else text


def _plain(value: object) -> object:
    """Return what JSON does not know as text, and a duration as seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def _writable(line: str) -> str:
    """Return *line* with lone surrogates escaped, also as JSON has it: no stream takes them."""
    return line.encode(errors="backslashreplace").decode()

"""The five windows that an operator has, and what was seen in them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.alerting import Prometheus
    from tests.night.workers import Workers

_PATIENCE = 60.0
_DOCTOR = ("doctor", "--long", "1s", "--json")


class Windows:
    """Waits until something is seen, and writes it down; what is not seen in time is an error."""

    def __init__(self, workers: Workers, prometheus: Prometheus) -> None:
        self.lines: list[str] = []
        self._workers = workers
        self._prometheus = prometheus
        self._began = time.monotonic()

    def title(self, text: str) -> None:
        self.lines += ["", f"## {text}", ""]
        self._workers.forget_log()

    def did(self, text: str) -> None:
        """Write down what the night or the operator did."""
        self._line("**did**", text)

    def nothing(self, window: str, why: str) -> None:
        """Write down what a window cannot show."""
        self._line(window, f"nothing: {why}")

    def metric(self, query: str) -> None:
        self.wait(lambda: self._prometheus.value(query), f"metric {query}")
        self._line("metrics", f"`{query}`")

    def fires(self, name: str, **labels: str) -> None:
        self.wait(lambda: self._is_firing(name, labels), f"{name} to fire")
        self._line("alerts", f"`{name}` fires{_shown(labels)}")

    def ends(self, name: str, **labels: str) -> None:
        self.wait(lambda: not self._is_firing(name, labels), f"{name} to end")
        self._line("alerts", f"`{name}` has ended{_shown(labels)}")

    def log(self, event: str, *shown: str, **having: object) -> None:
        """See an event in the log of the workers; the fields *shown* are written down."""

        def found() -> list[dict[str, Any]]:
            said = self._workers.said()
            return [e for e in said if e["event"] == event and having.items() <= e.items()]

        [line, *_] = self.wait(found, f"event {event} {having}")
        fields = {**having, **{name: line[name] for name in shown}}
        self._line("log", f"`{event}`{_shown(fields)}")

    def top(self, is_so: Callable[[Any], object], text: str) -> None:
        def look() -> object:
            answer = self._workers.ask("top", "--once", "--json")
            return answer.returncode == 0 and is_so(json.loads(answer.stdout))

        self.wait(look, f"top: {text}")
        self._line("`top`", text)

    def doctor(self, check: str, subject: str) -> None:
        """See a finding, and write down its cause and what mends it."""

        def look() -> list[dict[str, Any]]:
            answer = self._workers.ask(*_DOCTOR)
            findings = json.loads(answer.stdout)["findings"] if answer.stdout else []
            return [f for f in findings if f["check"] == check and f["subject"] == subject]

        [finding, *_] = self.wait(look, f"doctor to find {check} of {subject}")
        told = f"{finding['severity']}, {subject} ({check}); mend: `{finding['mend']}`"
        self._line("`doctor`", told)

    def no_database(self) -> None:
        """See that top and doctor say that they cannot look."""
        for command in (["top", "--once"], [*_DOCTOR]):
            answer = self._wait_failed(command)
            self._line(f"`{command[0]}`", f"exit code 1, `{answer}`")

    def command(self, *arguments: str) -> str:
        """Run a command that mends something."""
        answer = self._workers.ask(*arguments)
        assert answer.returncode == 0, answer
        shown = " ".join(f"'{each}'" if " " in each else each for each in arguments)
        self.did(f"`pgprog {shown}`")
        return answer.stdout

    def _wait_failed(self, command: list[str]) -> str:
        def look() -> str:
            answer = self._workers.ask(*command)
            return answer.stderr if answer.returncode == 1 else ""

        told: str = self.wait(look, f"{command} to fail")
        return told.partition(":")[0] + ": " + told.partition(":")[2].strip().partition(":")[0]

    def _is_firing(self, name: str, labels: dict[str, str]) -> bool:
        return any(
            alert["state"] == "firing"
            and alert["labels"]["alertname"] == name
            and labels.items() <= alert["labels"].items()
            for alert in self._prometheus.ask("alerts")["alerts"]
        )

    def _line(self, window: str, text: str) -> None:
        seconds = int(time.monotonic() - self._began)
        line = f"| {seconds // 60}:{seconds % 60:02} | {window} | {text.replace('|', '&#124;')} |"
        if self.lines[-1] == "":
            self.lines += ["| at | where | what |", "| --- | --- | --- |"]
        self.lines.append(line)
        print(line, flush=True)

    def wait(self, look: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + _PATIENCE
        while not (found := look()):
            if time.monotonic() > deadline:
                last = [line["event"] for line in self._workers.said()][-20:]
                msg = f"not seen: {what}; the log says {last}"
                raise AssertionError(msg)
            time.sleep(0.2)
        return found


def _shown(fields: dict[str, Any]) -> str:
    return "".join(f", {name} {value}" for name, value in fields.items())

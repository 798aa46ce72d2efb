"""Whether a worker obeys the settings that its file and code say."""

from __future__ import annotations

from pgprog.metrics.samples import Sample


class Agreement:
    """What is said and what is obeyed, by namespace; any thread may look.

    A namespace is shown from when both are known.
    """

    def __init__(self) -> None:
        self._said: dict[str, object] = {}
        self._obeyed: dict[str, object] = {}

    def begin(self, namespace: str, settings: object) -> None:
        """Learn what file and code said at the start; they may have been read again already."""
        self._said.setdefault(namespace, settings)

    def say(self, namespace: str, settings: object) -> None:
        """Learn what file and code say by now."""
        self._said[namespace] = settings

    def obey(self, namespace: str, settings: object) -> None:
        """Learn what the worker obeys from here."""
        self._obeyed[namespace] = settings

    def samples(self) -> list[Sample]:
        """Return where the two differ."""
        said = dict.copy(self._said)
        return [
            Sample("pgprog_settings_differ", (name,), float(settings != said[name]))
            for name, settings in dict.copy(self._obeyed).items()
            if name in said
        ]

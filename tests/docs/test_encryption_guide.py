"""The guide to encryption: its program, its configuration and its file of keys are such."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pgprog.config import load
from pgprog.encryption import Encryption

GUIDE = (Path(__file__).parents[2] / "docs/how-to/encryption.md").read_text()


def block(kind: str) -> str:
    """Return the block of the guide."""
    [text] = re.findall(rf"^```{kind}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    return str(text)


def test_the_program_of_the_guide_seals_what_it_sends(
    db: str, tmp_path: Path, session: Any
) -> None:
    (tmp_path / "keys.json").write_text(block("json"))
    keys = Encryption.from_file(tmp_path / "keys.json")
    program: dict[str, Any] = {}
    exec(block("python"), program)

    assert program["send"](db, keys.keys, keys.fingerprint_key) == {"text": "Dear Ada"}
    [state] = session().execute("select pgprog.get('letters', 'l-1') -> 'state'").fetchone()
    assert state["pgprog:sealed"].startswith("1.2026-11.")


def test_the_configuration_of_the_guide_is_one(tmp_path: Path) -> None:
    (tmp_path / "pgprog.yaml").write_text(block("yaml"))

    config = load(tmp_path / "pgprog.yaml", environ={})

    assert str(config.encryption.keys_file).endswith("keys.json")

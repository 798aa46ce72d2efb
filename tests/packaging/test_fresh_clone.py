"""The commands of the README, typed into a fresh clone by root and by an ordinary user."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgprog.embedded.account import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATH = "/usr/bin:/bin"

pytestmark = [
    pytest.mark.slow,  # each makes a virtual environment
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git"),
    pytest.mark.skipif(
        subprocess.run(
            ["python3", "-c", "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"],
            check=False,
            env={"PATH": PATH},
            stderr=subprocess.DEVNULL,
        ).returncode
        != 0,
        reason="python3 on the plain PATH is no Python 3.11 with venv",
    ),
]


@pytest.fixture(params=["caller", "ordinary"])
def account(request: pytest.FixtureRequest) -> Account:
    if request.param == "caller":
        return Account()
    if os.geteuid() != 0:
        pytest.skip("the caller is the ordinary user")
    entry = pwd.getpwnam("nobody")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


@pytest.fixture
def clone(account: Account) -> Iterator[Path]:
    """A fresh clone of what is committed, in a directory of the account's own."""
    place = Path(tempfile.mkdtemp(prefix="pgprog-clone-", dir="/var/tmp"))
    place.chmod(0o711)  # the server of root passes through as another account
    subprocess.run(
        ["git", "-c", "safe.directory=*", "clone", "--quiet", str(ROOT), str(place / "pgprog")],
        check=True,
    )
    if account.uid is not None:
        subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", str(place)], check=True)
    yield place / "pgprog"
    shutil.rmtree(place)


@pytest.fixture
def environ(clone: Path, account: Account) -> dict[str, str]:
    """All there is in the environment: where programs are, and where data may be kept."""
    variable = "PGPROG_HOME" if account.uid is None else "HOME"
    return {"PATH": PATH, variable: str(clone.parent / "home")}


def _run(*words: str, clone: Path, account: Account, environ: dict[str, str]) -> str:
    """Run a command in the clone, and return the end of what it printed."""
    done = subprocess.run(
        words,
        check=False,
        cwd=clone,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user=account.uid,
        group=account.gid,
        extra_groups=account.extra_groups,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_make_demo_and_make_test_are_enough_in_a_fresh_clone(
    clone: Path, account: Account, environ: dict[str, str]
) -> None:
    try:
        printed = _run("make", "demo", clone=clone, account=account, environ=environ)
    finally:
        stopping = (".venv/bin/pgprog", "db", "stop")
        _run(*stopping, clone=clone, account=account, environ=environ)

    count = re.search(r"^([\d,]+) documents in [\d.]+ s", printed, re.MULTILINE)
    assert count is not None, printed[-4000:]
    assert int(count[1].replace(",", "")) >= 1000
    for heading in ("Indexed", "Failed", "Searches", "Look further; the data stay"):
        assert f"\n{heading}\n" in printed

    # And then some tests of each kind: all of them run here already, and this one is one of them.
    chosen = "tests/unit/test_model.py tests/sql/test_requests.py tests/integration/test_engine.py"
    words = ("make", "--no-print-directory", "test", f"ARGS={chosen}")
    printed = _run(*words, clone=clone, account=account, environ={"PATH": PATH})
    assert " passed" in printed.splitlines()[-1]

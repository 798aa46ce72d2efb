"""The commands of the README, typed into a fresh clone by root and by an ordinary user."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgprog.embedded.account import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATH = "/usr/bin:/bin"
# Of each kind a few that are quick: all of them run here already, and this is one of them.
SOME_TESTS = "tests/unit/test_model.py tests/sql/test_timers.py tests/integration/test_closing.py"

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
    """All there is in the environment: where programs are, and where data may be kept.

    And that pip need not compile what nobody imports; by 0, as pip reads an option that says no.
    """
    variable = "PGPROG_HOME" if account.uid is None else "HOME"
    return {"PATH": PATH, variable: str(clone.parent / "home"), "PIP_NO_COMPILE": "0"}


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
    # A thousand documents take long: root, whose demo is as anybody's, has those of docs.  After
    # root the ordinary user begins with the tests, whose packages are more than those of the demo.
    is_root = account.uid is None and os.geteuid() == 0
    run = partial(_run, clone=clone, account=account)
    test = partial(run, "make", "--no-print-directory", "test", f"ARGS={SOME_TESTS}")
    without_home = {key: environ[key] for key in ("PATH", "PIP_NO_COMPILE")}
    tested = test(environ=without_home) if account.uid is not None else ""
    try:
        printed = run("make", "demo", *(["ARGS=docs"] if is_root else []), environ=environ)
    finally:
        run(".venv/bin/pgprog", "db", "stop", environ=environ)
    tested = tested or test(environ=without_home)

    count = re.search(r"^([\d,]+) documents in [\d.]+ s", printed, re.MULTILINE)
    assert count is not None, printed[-4000:]
    fewest = len([*clone.glob("docs/**/*.md")]) if is_root else 1000
    assert int(count[1].replace(",", "")) >= fewest
    for heading in ("Indexed", "Searches", "Look further; the data stay"):
        assert f"\n{heading}\n" in printed
    assert is_root or "\nFailed\n" in printed
    assert " passed" in tested.splitlines()[-1]

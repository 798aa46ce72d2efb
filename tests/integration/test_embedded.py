"""The private server and the development server, as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import pgprog
from pgprog.embedded import (
    DevelopmentServer,
    EmbeddedPostgres,
    cluster,
    private,
    programs,
    sockets,
)
from pgprog.embedded.account import Account, find_account
from pgprog.errors import ConfigError, PgprogError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # each makes a database cluster: 0.6 s or more
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop root")

PRIVATE = """
import sys
from pgprog.embedded import EmbeddedPostgres
server = EmbeddedPostgres(durable=False).start()
print(server.pid, server.base, flush=True)
sys.stdin.read()
"""
KEEPING = """
import sys
from pathlib import Path
from pgprog.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path({datadir!r})).start().pid, flush=True)
sys.stdin.read()
"""
MEMORY = """
from pathlib import Path
from pgprog.embedded import EmbeddedPostgres, private
with EmbeddedPostgres(durable=False, bindir=Path({bindir!r})) as server:
    print("ready")
    shelters = [*private.temporary_root().glob("pgprog-private-*/programs-*")]
print("left" if any(shelter.exists() for shelter in shelters) else "swept")
"""
DEVELOPMENT = """
from pgprog.embedded import DevelopmentServer
server = DevelopmentServer()
server.start()
print(server.status().pid, flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Runs scripts that import pgprog.embedded, as one account."""

    account: Account
    python: str
    environment: dict[str, str]

    def popen(self, script: str, *, home: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-c", script],
            cwd="/",
            env={**self.environment, "PGPROG_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=self.account.uid,
            group=self.account.gid,
            extra_groups=self.account.extra_groups,
        )

    def run(self, script: str, *, home: Path) -> str:
        with self.popen(script, home=home) as process:
            printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return printed.strip()


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory that every account can pass through, unlike tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def development(place: Path) -> Iterator[DevelopmentServer]:
    server = DevelopmentServer(place / "home")
    yield server
    server.stop()


@pytest.fixture(params=["caller", "ordinary"])
def user(request: pytest.FixtureRequest, place: Path) -> User:
    """Who runs the tests; and an ordinary user too, where root runs them."""
    if request.param == "caller":
        return User(
            account=Account(), python=sys.executable, environment={"PATH": os.environ["PATH"]}
        )
    if os.geteuid() != 0:
        pytest.skip("the caller is the ordinary user")
    entry = pwd.getpwnam("nobody")
    account = Account(uid=entry.pw_uid, gid=entry.pw_gid)
    library = place / "library"
    source = Path(pgprog.__file__).parent
    shutil.copytree(source / "embedded", library / "pgprog" / "embedded")
    shutil.copy(source / "errors.py", library / "pgprog" / "errors.py")
    found = programs.within_reach(programs.find_programs(), account=account, shelter=library)
    environment = {"PYTHONPATH": str(library), "PGPROG_PGBIN": str(found), "PATH": "/usr/bin:/bin"}
    return User(account=account, python=_python_for(account), environment=environment)


def _python_for(account: Account) -> str:
    for candidate in (sys.executable, "/usr/bin/python3"):
        try:
            asked = account.run(candidate, "-c", "import sys; print(sys.version_info >= (3, 11))")
        except OSError:
            continue
        if asked.stdout.strip() == "True":
            return candidate
    pytest.skip("no Python 3.11 that an ordinary user can run")


def _home_of(user: User, place: Path) -> Path:
    home = place / "home"
    home.mkdir()
    if user.account.uid is not None and user.account.gid is not None:
        os.chown(home, user.account.uid, user.account.gid)
    return home


def _wait_for_end(pid: int) -> None:
    """Wait until a process is gone that is nobody's child here."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 20)[0], f"{pid} is still there"
    finally:
        os.close(handle)


def _answer(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select current_setting('wal_level')").fetchone()
    return str(row[0]) if row else ""


def _modes(path: Path) -> list[tuple[Path, int, int]]:
    return [(p, p.stat().st_mode, p.stat().st_uid) for p in (path, *path.parents)]


def test_a_private_server_speaks_replication_and_leaves_nothing() -> None:
    with EmbeddedPostgres() as server:
        base = server.base
        assert _answer(server.dsn) == "logical"

    assert not base.exists()


def test_a_private_server_keeps_a_data_directory_it_was_given(place: Path) -> None:
    with EmbeddedPostgres(place / "data") as first, psycopg.connect(first.dsn) as connection:
        connection.execute("create table kept ()")

    with EmbeddedPostgres(place / "data") as second, psycopg.connect(second.dsn) as connection:
        row = connection.execute("select to_regclass('kept')::text").fetchone()

    assert row == ("kept",)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_private_server_ends_when_its_parent_is_killed(user: User, place: Path) -> None:
    with user.popen(PRIVATE, home=place) as process:
        assert process.stdout
        pid, base = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)

    _wait_for_end(int(pid))
    shutil.rmtree(base)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_data_directory_is_taken_over_from_a_program_that_was_killed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = User(account=Account(), python=sys.executable, environment={"PATH": os.environ["PATH"]})
    with user.popen(KEEPING.format(datadir=str(place / "data")), home=place) as killed:
        assert killed.stdout
        pid = int(killed.stdout.readline())
        os.kill(pid, signal.SIGSTOP)  # its server ends when we say so
        killed.kill()
    wait = EmbeddedPostgres._wait

    def refused_once(server: EmbeddedPostgres, *given: Any, **more: Any) -> None:
        try:
            wait(server, *given, **more)
        except PgprogError:
            os.kill(pid, signal.SIGCONT)
            raise

    monkeypatch.setattr(EmbeddedPostgres, "_wait", refused_once)
    with EmbeddedPostgres(place / "data") as server:
        assert _answer(server.dsn) == "logical"


def test_what_a_killed_parent_left_behind_is_swept(tmp_path: Path) -> None:
    old, young = tmp_path / "pgprog-private-old", tmp_path / "pgprog-private-young"
    for base in (old, young):
        base.mkdir()
        (base / "lock").touch()
    os.utime(old, (0, 0))

    private._sweep(tmp_path, owner=os.geteuid())

    assert [p.name for p in tmp_path.iterdir()] == ["pgprog-private-young"]


def test_the_dsn_of_a_private_server_has_the_port_that_it_was_given() -> None:
    with EmbeddedPostgres(settings={"port": "6543"}) as server:
        assert _answer(server.dsn) == "logical"


def test_a_server_that_does_not_start_says_what_its_log_says() -> None:
    with pytest.raises(PgprogError, match="nonsense"):
        EmbeddedPostgres(settings={"shared_buffers": "nonsense"}).start()


def test_programs_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot run .*initdb") as caught:
        EmbeddedPostgres(bindir=tmp_path).start()

    assert caught.value.hint


@root_only
def test_programs_under_a_closed_home_are_copied_and_the_home_stays_closed(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    found = programs.find_programs()
    package = found.parent.parent
    (closed / package.name).symlink_to(package)
    (closed / f"{package.name}.libs").symlink_to(package.parent / f"{package.name}.libs")
    before = _modes(closed)

    bindir = closed / package.name / found.parent.name / "bin"
    with EmbeddedPostgres(durable=False, bindir=bindir) as server:
        assert _answer(server.dsn) == "logical"

    assert _modes(closed) == before


@root_only
@pytest.mark.skipif(sys.platform != "linux", reason="mounts are Linux's")
def test_programs_are_copied_to_where_they_run_though_memory_runs_none(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    found = programs.find_programs()
    package = found.parent.parent
    for each in (package, package.parent / f"{package.name}.libs"):
        (closed / each.name).symlink_to(each)
    script = MEMORY.format(bindir=str(closed / package.name / found.parent.name / "bin"))
    # As in a container: what is mounted so here is so for this program alone.
    apart = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    mounted = 'mount -o remount,bind,noexec /dev/shm && exec "$0" -c "$1"'
    if subprocess.run([*apart, "mount -o remount,bind,noexec /dev/shm"], check=False).returncode:
        pytest.skip("nothing can be mounted here")

    done = subprocess.run(
        [*apart, mounted, sys.executable, script], check=False, capture_output=True, text=True
    )

    assert done.stdout.split() == ["ready", "swept"], done.stderr


@root_only
def test_the_server_of_root_runs_as_somebody_else(development: DevelopmentServer) -> None:
    development.start()

    assert Path(f"/proc/{development.status().pid}").stat().st_uid == find_account().uid != 0


def test_no_permission_outside_the_servers_own_directory_changes(user: User, place: Path) -> None:
    home = _home_of(user, place)
    before = _modes(home)

    user.run(DEVELOPMENT, home=home)

    DevelopmentServer(home).stop()
    assert _modes(home) == before
    assert (home / "postgres").stat().st_mode & 0o777 == 0o700


def test_a_development_server_outlives_its_starter_and_is_found_again(
    user: User, place: Path
) -> None:
    home = _home_of(user, place)

    first = user.run(DEVELOPMENT, home=home)
    second = user.run(DEVELOPMENT, home=home)

    server = DevelopmentServer(home)
    assert first == second == str(server.status().pid)
    assert _answer(server.dsn) == "logical"
    server.stop()
    assert not server.status().is_running


def test_starts_at_the_same_moment_make_one_server(user: User, place: Path) -> None:
    home = _home_of(user, place)
    starters = [user.popen(DEVELOPMENT, home=home) for _ in range(3)]

    pids = {starter.communicate(timeout=60)[0] for starter in starters}

    assert pids == {f"{DevelopmentServer(home).status().pid}\n"}
    DevelopmentServer(home).stop()


def test_a_killed_development_server_starts_again_with_its_data(
    development: DevelopmentServer,
) -> None:
    development.start()
    with psycopg.connect(development.dsn) as connection:
        connection.execute("create table kept ()")
    pid = development.status().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    _wait_for_end(pid)
    assert not development.status().is_running

    development.start()

    with psycopg.connect(development.dsn) as connection:
        assert connection.execute("select to_regclass('kept')::text").fetchone() == ("kept",)


def test_a_lock_whose_process_id_is_another_programs_by_now_counts_for_nothing(
    development: DevelopmentServer,
) -> None:
    development.start()
    pid = development.status().pid
    assert pid
    lock = (development.datadir / "postmaster.pid").read_text()
    development.stop()
    account = find_account()
    with subprocess.Popen(
        ["sleep", "60"], user=account.uid, group=account.gid, extra_groups=account.extra_groups
    ) as stranger:
        stale = development.datadir / "postmaster.pid"
        stale.write_text(lock.replace(str(pid), str(stranger.pid), 1))
        stale.chmod(0o644)
        assert not development.status().is_running

        development.start()

        assert development.status().is_running
        stranger.kill()


def test_a_server_is_found_again_where_there_is_no_proc(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PROC", place / "no proc, as on macOS")
    server = DevelopmentServer(place / "it's a home (5 $) with spaces \\o")
    server.start()
    first = server.status()

    server.start()

    assert first.is_running
    assert server.status().pid == first.pid
    server.stop()
    assert not server.status().is_running


def test_a_home_with_a_long_path_gets_short_sockets(place: Path) -> None:
    server = DevelopmentServer(place / ("long" * 30))

    server.start()

    assert _answer(server.dsn) == "logical"
    server.stop()
    stand_in = sockets.socket_directory(server.home / "postgres" / "sockets")
    assert stand_in.stat().st_mode & 0o777 == 0o700
    stand_in.rmdir()


def test_a_socket_directory_that_others_can_enter_is_refused(place: Path) -> None:
    trap = place / "trap"
    trap.mkdir(mode=0o755)

    with pytest.raises(ConfigError, match="alone"):
        sockets.make_socket_directory(trap, account=find_account())


def test_stopping_a_server_that_never_was_changes_nothing(development: DevelopmentServer) -> None:
    development.stop()

    assert not development.home.exists()
    assert not development.status().is_running


def test_a_home_behind_a_closed_directory_is_replaced_by_another(user: User, place: Path) -> None:
    if os.geteuid() == 0 and user.account.uid is None:
        pytest.skip("nothing is closed to root")
    closed = place / "closed"
    closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    script = f"""
import os
from pgprog.embedded.home import find_home
os.environ["HOME"] = {str(closed / "somebody")!r}
print(find_home({{}}), find_home({{"XDG_DATA_HOME": os.environ["HOME"]}}))
"""

    printed = user.run(script, home=place)

    uid = os.geteuid() if user.account.uid is None else user.account.uid
    assert printed == f"/var/tmp/pgprog-{uid} /var/tmp/pgprog-{uid}"


def test_a_home_that_cannot_be_entered_is_named(user: User, place: Path) -> None:
    if os.geteuid() == 0 and user.account.uid is None:
        pytest.skip("nothing is closed to root")
    closed = place / "closed"
    closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    script = """
from pgprog.embedded import DevelopmentServer
from pgprog.errors import ConfigError
for what in (DevelopmentServer.start, DevelopmentServer.stop, DevelopmentServer.status):
    try:
        what(DevelopmentServer())
    except ConfigError as e:
        print(e.hint)
"""

    hints = user.run(script, home=closed / "home").splitlines()

    assert len(hints) == 3
    assert all("PGPROG_HOME" in hint for hint in hints)


@pytest.mark.parametrize("below", ["file", "file/home"])
def test_a_home_that_is_no_directory_is_named_and_has_no_server(place: Path, below: str) -> None:
    (place / "file").touch()
    server = DevelopmentServer(place / below)

    server.stop()

    assert not server.status().is_running
    with pytest.raises(ConfigError, match="is not a directory"):
        server.start()

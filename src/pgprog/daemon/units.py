"""The units by which systemd runs workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# For the socket; who may ask is said by its own mode.
_SOCKET: Final = """\
# reader.socket: /run/pgprog-%i/reader.sock
RuntimeDirectory=pgprog-%i
RuntimeDirectoryMode=0755
"""


class _Unit(NamedTuple):
    """What a unit is for, the roles of its workers, None for all, and lines of its own."""

    description: str
    roles: str | None
    lines: str = ""


_UNITS: Final[Mapping[str, _Unit]] = {
    "pgprog-worker@.service": _Unit("pgprog worker of %i", None),
    "pgprog-reader@.service": _Unit("pgprog shared reader of %i", "reader", _SOCKET),
    "pgprog-maintenance@.service": _Unit(
        "pgprog collector and maintenance of %i", "collector,maintenance"
    ),
}

_TEMPLATE: Final = """\
# {name}, by `pgprog systemd`.  %i is what stands behind the @ when it is started.
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target postgresql.service
# However long the database is away: try again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
WorkingDirectory={directory}
# PGPROG_DSN=... and other secrets; root's, mode 600.
EnvironmentFile=-/etc/pgprog/%i.env
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2s
# A worker that makes no progress is ended by SIGABRT, and logs where it stands.
WatchdogSec=30s
# Workers of a supervisor and child processes are stopped by who started them.
KillMode=mixed
# 15 s more than worker.stop_timeout; one that is longer asks for its time by itself.
TimeoutStopSec=45s
# A second SIGTERM; a worker that has reached worker.memory_limit.
SuccessExitStatus=143 75
# A child process that takes too much memory ends alone.
OOMPolicy=continue

{lines}{account}
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectProc=invisible
ProcSubset=pid
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
LockPersonality=yes
RemoveIPC=yes
# Not for handlers that compile machine code as they run.
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def units(*, program: str, directory: str, user: str | None) -> dict[str, str]:
    """Return the text of each unit, by its name.

    *program* is the command line of pgprog with its absolute path; *directory* has the
    configuration and the handlers.  Without *user* systemd makes an account while the unit runs.
    """
    return {
        name: _TEMPLATE.format(
            name=name,
            description=unit.description,
            directory=directory,
            command=" ".join([program, "worker --log-format json", *_only(unit.roles)]),
            lines=unit.lines,
            account="DynamicUser=yes" if user is None else f"User={user}",
        )
        for name, unit in _UNITS.items()
    }


def quoted(path: str) -> str:
    """Return the path of a program as systemd reads it: one with spaces in quotes."""
    escaped = path.replace("%", "%%")
    return f'"{escaped}"' if " " in path else escaped


def _only(roles: str | None) -> list[str]:
    return [] if roles is None else [f"--only {roles}"]

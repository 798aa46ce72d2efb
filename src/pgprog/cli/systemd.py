"""`pgprog systemd`: units for systemd."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pgprog.cli.output import json_option, print_json
from pgprog.daemon.units import quoted, units
from pgprog.errors import ConfigError

# What the units hide from their programs.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not written to


@click.command()
@click.option(
    "--directory",
    default="/opt/%i",
    show_default=True,
    help="Where pgprog.yaml and the handlers are; %i is what is served.",
)
@click.option("--user", help="The account of the workers; default: one that systemd makes.")
@click.option(
    "--write",
    "to",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write them into this directory, such as /etc/systemd/system.",
)
@json_option
def systemd(*, directory: str, user: str | None, to: Path | None, as_json: bool) -> None:
    """Print units by which systemd runs this pgprog, hardened, with a watchdog.

    \b
    pgprog-worker@.service       worker.processes workers of all roles but reader
    pgprog-maintenance@.service  collector and maintenance only, beside workers `--only steps`
    pgprog-reader@.service       a reader that the programs of this machine share

    `systemctl start pgprog-worker@shop` then serves /opt/shop/pgprog.yaml.  `systemctl reload` is
    SIGHUP; `systemctl edit` changes what the units say.
    """  # noqa: D301 - \b is the character by which click keeps lines as they are
    made = units(program=_program(), directory=directory, user=user)
    if to is not None:
        _write(made, to)
    if as_json:
        print_json(made)
    elif to is None:
        click.echo("\n".join(made.values()), nl=False)
    else:
        for name in made:
            click.echo(to / name)


def _program() -> str:
    """Return the command of this pgprog, and warn if the units could not see it."""
    python = Path(sys.executable).absolute()
    script = python.with_name("pgprog")
    for path in (python, python.resolve()):
        if any(path.is_relative_to(hidden) for hidden in _HIDDEN):
            click.echo(
                f"Warning: {path} is hidden from the units; install pgprog below /opt,"
                " with a Python that everybody may run",
                err=True,
            )
            break
    return quoted(str(script)) if script.exists() else f"{quoted(str(python))} -m pgprog"


def _write(made: dict[str, str], to: Path) -> None:
    try:
        for name, text in made.items():
            (to / name).write_text(text)
    except OSError as e:
        msg = f"{e.filename} cannot be written: {e.strerror}"
        raise ConfigError(msg) from e

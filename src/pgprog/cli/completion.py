"""`pgprog completion`: what a shell offers at the tabulator key."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from pgprog.errors import PgprogError

if TYPE_CHECKING:
    from click import Group

_VARIABLE = "_PGPROG_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print what makes a shell complete commands, options and the names of namespaces.

    \b
    bash   eval "$(pgprog completion bash)"      in ~/.bashrc
    zsh    eval "$(pgprog completion zsh)"       in ~/.zshrc, behind compinit
    fish   pgprog completion fish | source       in ~/.config/fish/config.fish

    Namespaces are read from the database that the command would use, if it answers at once.
    """  # noqa: D301 - \b is the character by which click keeps lines as they are
    found = get_completion_class(shell)
    if found is None or sys.platform == "win32":
        msg = f"there is no completion for {shell}"
        raise PgprogError(msg)
    program: Group = _program(ctx)
    click.echo(found(program, {}, "pgprog", _VARIABLE).source())


def _program(ctx: click.Context) -> Group:
    root = ctx.find_root().command
    if not isinstance(root, click.Group):
        msg = "completion is a command of a group"
        raise TypeError(msg)
    return root

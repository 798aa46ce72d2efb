"""Write docs/reference/cli.md from the commands themselves; with --check, tell whether it is so.

python tools/cli_reference.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgprog.cli import main as program
from pgprog.cli.campaign import campaign

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path("docs/reference/cli.md")
_HEAD = """# Command line

Made from the commands by `tools/cli_reference.py`; `make check` compares.
"""


def main(words: list[str]) -> int:
    """Write the page, or compare it; return the exit code."""
    text = page()
    if "--check" not in words:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print(f"{PAGE} is not what the commands say: make reference", file=sys.stderr)
        return 1
    print(f"{PAGE}: {text.count('## `pgprog')} commands")
    return 0


def page() -> str:
    """Return the whole page."""
    context = click.Context(program, info_name="pgprog")
    return "\n".join([_HEAD, *_about(program, context)])


def _about(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the lines about a command, then those about the commands in it."""
    yield f"## `{context.command_path}`\n"
    yield f"```text\n{_usage(command, context)}\n```\n"
    yield from _told(command)
    yield from _options(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            for child in _commands(command, context, name):
                yield from _about(child, click.Context(child, info_name=child.name, parent=context))


def _commands(group: click.Group, context: click.Context, name: str) -> Iterator[click.Command]:
    """Yield the command of a name, and the one that `--all` makes of repair."""
    child = group.get_command(context, name)
    if child is not None and not child.hidden:
        yield child
    if context.command_path.endswith("process") and name == "repair":
        yield campaign


def _usage(command: click.Command, context: click.Context) -> str:
    words = [context.command_path, "[OPTIONS]"]
    for each in command.params:
        if isinstance(each, click.Argument):
            name = each.metavar or str(each.name).upper()
            words.append(name if each.required or name.startswith("[") else f"[{name}]")
    if isinstance(command, click.Group):
        words.append("[COMMAND]" if command.invoke_without_command else "COMMAND")
    return " ".join(words)


def _told(command: click.Command) -> Iterator[str]:
    """Yield the paragraphs of the help; what keeps its lines there does here, too."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            lines = paragraph.split("\n")[1:]
            title = [lines.pop(0)] if lines and lines[0].endswith(":") else []
            yield from (f"{line}\n" for line in title)
            yield "```text\n" + inspect.cleandoc("\n" + "\n".join(lines)) + "\n```\n"
        else:
            yield f"{paragraph}\n"


def _options(command: click.Command) -> Iterator[str]:
    found = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if not found:
        return
    yield "| option | meaning |\n| --- | --- |"
    for each in found:
        names = ", ".join(f"`{name}`" for name in each.opts)
        default = f"  Default: `{each.default}`." if each.show_default else ""
        yield f"| {names}{_value(each)} | {_cell(each.help or '')}{_cell(default)} |"
    yield ""


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + _cell(" ".join(f"`{choice}`" for choice in option.type.choices))
    return f" {option.metavar or option.type.name.split()[0].upper()}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

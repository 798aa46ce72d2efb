"""What any page tells to type is there: commands, options, Python, targets of make, extras."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from pgprog.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("bench/**/*.md")])
RULES = ROOT / "deploy/prometheus/pgprog.rules.yml"
# Commands that pages speak of before they are written.
COMING: set[str] = set()
_TYPED = re.compile(r"(?:^ {4}|^\$ |`)((?:\.venv/bin/)?pgprog [^`\n]+)", flags=re.MULTILINE)

_NAME = re.compile("[a-z][a-z-]*")


def commands_of(page: Path) -> list[str]:
    return sorted(set(_TYPED.findall(page.read_text())))


@pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, id=f"{page.name}-{command}")
        for page in PAGES
        for command in commands_of(page)
    ],
)
def test_every_command_of_a_page_is_one_with_these_options(page: Path, command: str) -> None:
    place: click.Command = main
    words = _words(command)[1:]
    while isinstance(place, click.Group) and words and _NAME.fullmatch(words[0]):
        found = place.get_command(click.Context(place), words[0])
        if found is None and words[0] in COMING:
            return
        assert found is not None, f"{page}: {words[0]}"
        place, words = found, words[1:]
    if "--all" in words:  # a command of its own, in the place of another
        return
    options = {each for parameter in place.params for each in parameter.opts}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}

    assert given - options <= {"--help", "--version"}


@pytest.mark.parametrize(
    "command",
    sorted(set(re.findall(r"pgprog ([a-z][a-z -]+)", RULES.read_text()))),
)
def test_every_command_of_an_alert_is_one(command: str) -> None:
    place: click.Command = main
    words = command.split()
    while isinstance(place, click.Group):
        found = place.get_command(click.Context(place), words.pop(0))
        assert found is not None
        place = found
    options = {each for parameter in place.params for each in parameter.opts}

    assert {word for word in words if word.startswith("--")} - {"--all"} <= options


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a part of a command, in a sentence
        return command.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_python_of_a_page_is_python(page: Path) -> None:
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)):
        name = f"{page.name}, block {number}"

        assert compile(block, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_that_a_page_names_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = re.findall(r"(?:^ {4}|^\$ |`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)

    assert set(named) - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_extra_that_a_page_names_can_be_installed(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"pgprog\[(\w+)\]", page.read_text()))

    assert named - set(project["optional-dependencies"]) == set()

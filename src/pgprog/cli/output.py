"""What all commands share: results for people, or as JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

# Gives the command a keyword parameter *as_json*.
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def print_json(value: object) -> None:
    """Print one JSON document on a line; paths and times become strings."""
    click.echo(json.dumps(value, default=str, ensure_ascii=False))


def print_fields(fields: Mapping[str, object]) -> None:
    """Print a name and a value a line, in columns."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        click.echo(f"{name:<{width}}  {'-' if value is None else value}")

"""The reference names all that is public: of Python, of the catalogue, of the configuration."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pgprog
from pgprog import config, errors

if TYPE_CHECKING:
    from tests.conftest import SessionFactory


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    for needed in ("mkdocs", "pglast"):
        pytest.importorskip(needed, reason="only make check builds the site")
    from tools import reference  # noqa: PLC0415 - needs what only make check installs

    return reference.pages()


def test_each_function_and_view_of_the_catalogue_is_in_it(
    pages: dict[str, str], session: SessionFactory
) -> None:
    found = session().execute(
        "select proname, 'function' from pg_proc where pronamespace = 'pgprog'::regnamespace"
        " union all"
        " select relname, 'view' from pg_class"
        " where relnamespace = 'pgprog'::regnamespace and relkind = 'v'"
    )
    missing = [row for row in found if f"### pgprog.{row[0]}\n" not in pages["sql"]]

    assert missing == []


def test_each_function_has_its_signature_and_what_it_says(pages: dict[str, str]) -> None:
    section = pages["sql"].partition("### pgprog.remove\n")[2].partition("\n### ")[0]

    assert "returns boolean" in section
    assert "Raises" in section


def test_each_column_of_a_view_is_in_it(pages: dict[str, str], session: SessionFactory) -> None:
    found = session().execute(
        "select relname, attname from pg_attribute join pg_class c on c.oid = attrelid"
        " where relnamespace = 'pgprog'::regnamespace and relkind = 'v' and attnum > 0"
    )
    for view, column in found:
        section = pages["sql"].partition(f"### pgprog.{view}\n")[2].partition("\n### ")[0]

        assert f"`{column}`" in section, (view, column)


def test_each_public_name_is_in_it(pages: dict[str, str]) -> None:
    text = pages["python"] + pages["errors"]
    missing = [name for name in pgprog.__all__ if f"# {name}" not in text]

    assert missing == []


def test_each_name_that_a_page_imports_is_in_it(pages: dict[str, str]) -> None:
    sections = {
        section.partition("\n")[0]: section for section in pages["python"].split("\n## ")[1:]
    }
    missing = [
        (module, name)
        for module, name in imported_by_pages()
        if not hasattr(errors, name)
        and not re.search(rf"^### {name}$|`{name}`", sections.get(module, ""), flags=re.MULTILINE)
    ]

    assert missing == []


def test_each_class_that_a_public_method_answers_with_is_in_it(pages: dict[str, str]) -> None:
    signatures = re.findall(r"```python\n(.*?)```", pages["python"], flags=re.DOTALL)
    answers = "".join(each.rpartition("->")[2] for each in signatures if "->" in each)
    ours = {
        value.__name__
        for name in [*sys.modules]
        if name.startswith("pgprog.")
        for value in vars(sys.modules[name]).values()
        # isclass would ask the settings of Django, which are not there yet.
        if issubclass(type(value), type) and value.__module__.startswith("pgprog.")
    }
    answered = ours & {*re.findall(r"\b[A-Z]\w+", answers)}
    text = pages["python"] + pages["errors"]
    missing = {name for name in answered if f"# {name}\n" not in text}

    assert missing == {"Decorator", "Handler"}  # by which functions become handlers


def imported_by_pages() -> set[tuple[str, str]]:
    """Return what the Python of all pages imports of pgprog, but for modules."""
    text = "".join(page.read_text() for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return {
        (node.module, alias.name)
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pgprog")
        for alias in node.names
        if hasattr(importlib.import_module(node.module), alias.name)
        and not inspect.ismodule(getattr(sys.modules[node.module], alias.name))
    }


def test_each_error_is_in_it_with_its_code(pages: dict[str, str]) -> None:
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.PgprogError):
            code = f" ({error.sqlstate})" if error.sqlstate else ""

            assert f"# {error.__name__}{code}\n" in pages["errors"]


def test_each_key_of_the_configuration_is_in_it(pages: dict[str, str]) -> None:
    classes = (config.Config, config.PoolConfig, config.WorkerConfig, config.NamespaceSettings)
    keys = [field.name for each in classes for field in dataclasses.fields(each)]
    missing = [key for key in keys if f"{key}`" not in pages["configuration"].replace("\n", "`")]

    assert set(missing) <= {"pool", "worker", "retry", "cache", "limits"}


def test_a_method_is_shown_with_all_its_forms_and_errors(pages: dict[str, str]) -> None:
    section = pages["python"].partition("#### AsyncClient.call\n")[2].partition("\n#### ")[0]

    assert section.count("```python") == 2
    assert "- `Rejected`: The handler said no" in section

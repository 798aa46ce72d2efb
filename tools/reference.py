"""The reference, made from the code that it is about, while MkDocs builds the site.

`pages` makes them; `on_files` is the hook by which they get into the site: no file of them is kept.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ForwardRef, get_overloads

from mkdocs.structure.files import File
from pglast import ast, parse_sql

from pgprog import config, errors
from pgprog.config.schema import hints_of, is_section, scalar_of, to_plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
# What applications import, and what in it needs no page: errors have their own.
MODULES = {
    "pgprog": {*vars(errors)},
    "pgprog.embedded": set(),
    "pgprog.testing": set(),
    "pgprog.testing.fixtures": set(),
    "pgprog.contrib.fastapi": set(),
    "pgprog.contrib.django": set(),
    "pgprog.contrib.sqlalchemy": set(),
}
# Of modules that are for pgprog itself, what programs give to it or are answered with.
_GIVEN = {
    "pgprog.client.bound": ["Bound", "AsyncBound"],
    "pgprog.config": ["CacheSettings", "PoolConfig", "WorkerConfig"],
    "pgprog.encryption": ["Encryption"],
    "pgprog.logs": ["StepFields"],
    "pgprog.model": ["Explanation", "TaskRecord", "TaskResult"],
    "pgprog.store.rows": ["NamespaceStats"],
}
_KEYWORDS = {"pgprog.client.requests": ["Options"], "pgprog.client.freshness": ["Freshness"]}
# For other parts of pgprog, though their names are without an underscore.
_INTERNAL = {"ask", "end_of", "events_page", "look", "namespace_of", "over", "queue", "wait_ended"}
_WIDTH = 88
_MODULE = re.compile(r"\b(?:\w+\.)+(?=[A-Z])")
_HEAD = re.compile(r"/\*\n(.*?)\*/\s*create or replace function (pgprog\..*?)\nlanguage", re.DOTALL)
_SECTION = re.compile(r"^(\w+):\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\w[\w., ]*): ", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the site."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    made = {
        "python": python_page(),
        "sql": sql_page(),
        "configuration": configuration_page(),
        "errors": errors_page(),
    }
    return {name: "\n\n".join(parts) + "\n" for name, parts in made.items()}


def python_page() -> Iterator[str]:
    """Yield the parts of the page about what applications import."""
    yield "# Python"
    yield "What stands here is public; everything else may change at any time."
    for name, left_out in MODULES.items():
        module = importlib.import_module(name)
        yield f"## {name}"
        yield _told(module)
        for each, value in _public(module):
            if each not in left_out:
                yield from _about(each, value)
    for name, classes in _GIVEN.items():
        yield f"## {name}"
        for each in classes:
            yield from _about(each, getattr(importlib.import_module(name), each))
    yield "## Options of requests and reads"
    for name, classes in _KEYWORDS.items():
        for each in classes:
            yield from _about(each, getattr(importlib.import_module(name), each))


def sql_page() -> Iterator[str]:
    """Yield the parts of the page about the schema pgprog."""
    yield "# SQL"
    yield (
        "Arguments are given by name. Functions may be called inside the application's own "
        "transaction, where their comments do not say otherwise; `\\df+ pgprog.*` shows the same."
    )
    yield "## Functions"
    for path in sorted((ROOT / "sql/functions/api").glob("*.sql")):
        for head, signature in _HEAD.findall(path.read_text()):
            yield f"### {signature.partition('(')[0]}"
            yield f"```sql\n{signature}\n```"
            yield re.sub(r"^ \* ?", "", head, flags=re.MULTILINE).strip()
    yield "## Views"
    text = "".join(path.read_text() for path in sorted((ROOT / "sql/views").glob("*.sql")))
    for name, columns in _views(text):
        comment = re.search(rf"comment on view {name} is '((?:[^']|'')*)'", text)
        yield f"### {name}"
        yield "" if comment is None else comment[1].replace("''", "'") + "."
        yield ", ".join(f"`{column}`" for column in columns)


def configuration_page() -> Iterator[str]:
    """Yield the parts of the page about the configuration file."""
    yield "# Configuration"
    yield (
        "One YAML file (`--config`, `PGPROG_CONFIG`, `./pgprog.yaml`), over it one of its "
        "`profiles`, then variables, then flags. `pgprog config check` names all faults, `config "
        "show` has each value with where it comes from."
    )
    yield _table(config.Config, "", variable="PGPROG_")
    for name, hint in hints_of(config.Config).items():
        if is_section(hint):
            yield f"## {name}"
            yield _told(hint)
            yield _table(hint, f"{name}.", variable=f"PGPROG_{name.upper()}_")
    yield "## namespaces.NAME"
    yield (
        "`handlers` is `module:name`, a `Namespace` or a processor function. What follows may "
        "also be given to `Namespace(…)` in code, and is in the database, where `pgprog namespace "
        "set` changes it."
    )
    yield from _sections(config.NamespaceSettings, "")


def errors_page() -> Iterator[str]:
    """Yield the parts of the page about errors."""
    yield "# Errors"
    yield "The SQL functions raise those with a code by it; none is recognised by its text."
    yield (
        "Import them from `pgprog.errors`; those that handlers raise, and both roots, are in "
        "`pgprog`, too."
    )
    for root in (errors.PgprogError, errors.StepError):
        yield f"## {root.__name__}"
        yield _told(root)
        for each in _below(root):
            code = getattr(each, "sqlstate", None)
            yield f"### {each.__name__}" + ("" if code is None else f" ({code})")
            yield _told(each)


def _sections(class_: type, under: str) -> Iterator[str]:
    yield _told(class_)
    yield _table(class_, under)
    for name, hint in hints_of(class_).items():
        if is_section(hint):
            yield f"### {under}{name}"
            yield from _sections(hint, f"{under}{name}.")


def _table(class_: type, under: str, *, variable: str | None = None) -> str:
    """Return the keys of a section that have values of their own."""
    defaults = {f.name: _default(f) for f in dataclasses.fields(class_)}
    rows = ["| key | value | default |", "| --- | --- | --- |"]
    for name, hint in hints_of(class_).items():
        if not is_section(hint):
            key = f"`{under}{name}`"
            is_value = variable is not None and not defaults[name].startswith("{")
            of_environ = f", `{variable}{name.upper()}`" if is_value else ""
            words = _words(hint)
            default = defaults[name]
            if words.startswith("a size") and default != "`null`":
                default = _sized(default)
            rows.append(f"| {key}{of_environ} | {words} | {default} |")
    return "\n".join(rows)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{_plain(to_plain(field.default))}`"
    if field.default_factory is not dataclasses.MISSING:
        return "{}"
    return "required"


def _sized(default: str) -> str:
    for shift, unit in ((20, "MiB"), (10, "KiB")) if default != "`null`" else ():
        if (size := int(default.strip("`"))) >= 1 << shift:
            return f"`{size >> shift}{unit}`"
    return default


def _plain(value: object) -> str:
    match value:
        case None:
            return "null"
        case "":
            return '""'
        case bool():
            return str(value).lower()
        case list() | frozenset():
            return "[]"
        case _:
            return str(value)


def _words(hint: object) -> str:
    try:
        return scalar_of(hint).words.replace("|", "\\|")
    except (KeyError, TypeError):
        return "a section for each"


def _views(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each view of a file of SQL with the names of its columns."""
    for statement in parse_sql(text):
        if isinstance(view := statement.stmt, ast.ViewStmt) and view.view is not None:
            query: Any = view.query
            while query.larg is not None:
                query = query.larg
            names = [each.name or each.val.fields[-1].sval for each in query.targetList]
            yield f"{view.view.schemaname}.{view.view.relname}", names


def _public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield what a module offers: what it lists, else what it defines."""
    names = getattr(module, "__all__", None)
    for name in names or [n for n in vars(module) if not n.startswith("_")]:
        value = getattr(module, name)
        if names or getattr(value, "__module__", None) == module.__name__:
            yield name, value


def _about(name: str, value: object) -> Iterator[str]:
    yield f"### {name}"
    if not inspect.isclass(value):
        yield from _call(name, value)
    else:
        if not hasattr(value, "__total__"):
            yield from _signature(name, value)
        yield _told(value)
        if hasattr(value, "__total__"):
            yield ", ".join(f"`{key}`" for key in inspect.get_annotations(value))
        inherited = {method for base in value.__mro__[1:-1] for _, method in _known(base)}
        for each, method in _methods(value):
            if method not in inherited:
                yield f"#### {name}.{each}"
                yield from _call(each, method)
        for base in value.__mro__[1:]:
            if base.__name__ in _listed():
                yield f"And what `{base.__name__}` has."


def _call(name: str, value: Any) -> Iterator[str]:  # noqa: ANN401 - functions and what is not
    function = inspect.unwrap(value) if callable(value) else value
    overloads = get_overloads(function) if inspect.isfunction(function) else []
    for each in overloads or [function]:
        yield from _signature(name, each)
    yield _told(function)


def _methods(class_: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties of a class and of its bases that are ours."""
    for name in sorted({n for base in class_.__mro__ if _is_ours(base) for n in vars(base)}):
        value = inspect.getattr_static(class_, name)
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        is_public = not name.startswith("_") and name not in _INTERNAL
        if is_public and inspect.isfunction(function):
            yield name, function


def _known(class_: type) -> Iterator[tuple[str, object]]:
    """Yield the methods of a class that has a part of its own on the page."""
    if class_.__name__ in _listed():
        yield from _methods(class_)


def _listed() -> list[str]:
    return importlib.import_module("pgprog").__all__  # type: ignore[no-any-return]


def _is_ours(class_: type) -> bool:
    return class_.__module__.startswith("pgprog")


def _signature(name: str, value: object) -> Iterator[str]:
    """Yield the signature in one line, or one line a parameter where it is long."""
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    answer = signature.return_annotation
    text = str(
        signature.replace(
            parameters=[_bare(p) for p in parameters],
            return_annotation=_Words(answer) if isinstance(answer, str) else answer,
        )
    )
    text = _MODULE.sub("", text)
    if len(name + text) > _WIDTH:
        inner, _, after = text[1:].rpartition(")")
        lines = re.split(r", (?=\*|/|\w+\b(?::| =|=|$))", inner)
        text = "(\n" + "".join(f"    {line},\n" for line in lines) + ")" + after
    yield f"```python\n{name}{text}\n```"


class _Words(str):
    """An annotation that is shown as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    hint = parameter.annotation
    if isinstance(hint, ForwardRef):  # of a named tuple
        hint = hint.__forward_arg__
    return parameter.replace(annotation=_Words(hint) if isinstance(hint, str) else hint)


def _told(value: Any) -> str:  # noqa: ANN401 - modules, classes and functions
    """Return what the docstring says, with its sections as lists."""
    text = inspect.getdoc(value) or ""
    return _SECTION.sub(lambda m: f"**{m[1]}**\n\n{_entries(m[2])}", text + "\n").strip()


def _entries(text: str) -> str:
    entries = _ENTRY.sub(r"- `\1`: ", text.rstrip())
    return re.sub(r"^ {4,}", "    ", entries, flags=re.MULTILINE)


def _below(root: type[Exception]) -> Iterator[type[Exception]]:
    """Yield the errors that derive from a root, in the order of the module."""
    for value in vars(errors).values():
        if inspect.isclass(value) and issubclass(value, root) and value is not root:
            yield value

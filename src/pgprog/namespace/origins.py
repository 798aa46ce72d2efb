"""Where the namespaces of one program are found by another: its child processes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from pgprog.errors import ConfigError
from pgprog.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAIN = "__main__"
# What a script is called where it is imported: not __main__, for it must not run.
_IMPORTED_MAIN = "__pgprog_main__"

# Set while a child process imports handlers: a script without a guard must not serve there.
importing = threading.Event()


class Origin(msgspec.Struct, frozen=True):
    """A dotted name within a module; *path* is the module's file, for what no name imports."""

    module: str
    attributes: str
    path: str | None = None


def find_origin(namespace: Namespace[Any]) -> Origin | None:
    """Return where *namespace* is found: where it was loaded from, else as a global of a module.

    None where it is no global, or only of a program that has no file, such as an interactive one.
    """
    if namespace.origin is not None:
        module, _, attributes = namespace.origin.partition(":")
        return Origin(module, attributes, _file_of(sys.modules.get(module)))
    places = sorted(_places(namespace.original), key=lambda place: place[0] == _MAIN)
    return _origin(*places[0]) if places else None


def load_origin(origin: Origin, *, name: str) -> Namespace[Any]:
    """Import the namespace called *name*.

    Raises:
        ConfigError: It cannot be imported, or is not there; the message says why.
    """
    where = f"{origin.module}:{origin.attributes}"
    try:
        module = _imported(origin)
    except (Exception, SystemExit) as e:
        msg = f"{where} cannot be imported: {type(e).__name__}: {e}"
        raise ConfigError(msg) from e
    try:
        found: object = reduce(getattr, origin.attributes.split("."), module)
    except AttributeError as e:
        msg = f"module {origin.module} has no {origin.attributes}"
        raise ConfigError(msg) from e
    return as_namespace(found, name=name, where=where)


def as_namespace(found: object, *, name: str, where: str) -> Namespace[Any]:
    """Return the namespace called *name* that *found* is, or whose processor it is.

    Raises:
        ConfigError: It is neither, or a namespace of another name.
    """
    if isinstance(found, Namespace):
        namespace: Namespace[Any] = found
    elif callable(found):
        namespace = Namespace(name)
        namespace.processor(found)
    else:
        msg = f"{where} is neither a Namespace nor a function: {found!r}"
        raise ConfigError(msg)
    if namespace.name != name:
        msg = f"{where} is the namespace {namespace.name}, not {name}"
        raise ConfigError(msg)
    return namespace


def _places(namespace: Namespace[Any]) -> Iterator[tuple[str, str]]:
    """Give the modules that have *namespace* as a global, with its name there."""
    main = sys.modules.get(_MAIN)
    for name, module in [*sys.modules.items()]:
        if isinstance(module, ModuleType):
            for attribute, value in [*vars(module).items()]:
                if value is namespace:  # a script has other names too, by multiprocessing
                    yield _MAIN if module is main else name, attribute


def _origin(module_name: str, attribute: str) -> Origin | None:
    module = sys.modules[module_name]
    if module_name == _MAIN:
        if module.__spec__ is not None:  # python -m
            return Origin(module.__spec__.name, attribute)
        if _file_of(module) is None:
            return None
    return Origin(module_name, attribute, _file_of(module))


def _file_of(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve()) if file and Path(file).is_file() else None


def _imported(origin: Origin) -> ModuleType:
    if origin.module == _MAIN:
        module = sys.modules.get(_IMPORTED_MAIN) or _from_file(_IMPORTED_MAIN, origin.path)
        sys.modules[_MAIN] = module
        return module
    try:
        return importlib.import_module(origin.module)
    except ModuleNotFoundError as e:
        if origin.path is None or e.name is None or not _is_within(origin.module, e.name):
            raise
    return _from_file(origin.module, origin.path)


def _is_within(module_name: str, package_name: str) -> bool:
    return f"{module_name}.".startswith(f"{package_name}.")


def _from_file(name: str, path: str | None) -> ModuleType:
    spec = None if path is None else importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{path} is no Python file"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

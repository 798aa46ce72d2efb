"""From the names in a configuration, or a file, to namespaces with their handlers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgprog.errors import ConfigError
from pgprog.namespace import Namespace
from pgprog.namespace.origins import as_namespace

if TYPE_CHECKING:
    from types import ModuleType

    from pgprog.config import Config, NamespaceConfig


_HOW = "add namespaces.NAME.handlers: module:name to pgprog.yaml; `pgprog dev FILE` needs none"


def check_namespaces(config: Config) -> None:
    """Check that there is something to serve.

    Raises:
        ConfigError: There is not.
    """
    if not config.namespaces:
        msg = "the configuration has no namespaces: a worker needs one at least"
        raise ConfigError(msg, hint=_HOW)


def load_namespaces(config: Config) -> list[Namespace[Any]]:
    """Return the namespaces of *config*, imported from where it says, under its settings.

    Modules are looked for in the working directory first.  A name may be that of a `Namespace` or
    of a processor function, which takes every step of the namespace.

    Raises:
        ConfigError: There is none, or one cannot be imported or is neither; the message says which.
    """
    check_namespaces(config)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return [_load(name, section) for name, section in config.namespaces.items()]


def load_file(path: Path) -> list[Namespace[Any]]:
    """Return the namespaces that the Python file at *path* makes at its top level.

    Raises:
        ConfigError: The file cannot be imported, or makes none.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        msg = f"{path} is no Python file"
        raise ConfigError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise _not_imported(str(path), e) from e
    found = [value for value in vars(module).values() if isinstance(value, Namespace)]
    if not found:
        msg = f"{path} makes no Namespace at its top level"
        raise ConfigError(msg)
    return found


def _load(name: str, section: NamespaceConfig) -> Namespace[Any]:
    path = f"namespaces.{name}.handlers"
    module_name, _, attributes = section.handlers.partition(":")
    module = _imported(module_name, where=path)
    try:
        found: object = reduce(getattr, attributes.split("."), module)
    except AttributeError as e:
        msg = f"{path}: module {module_name} has no {attributes}"
        raise ConfigError(msg) from e
    namespace = as_namespace(found, name=name, where=f"{path}: {section.handlers}")
    served = namespace.with_settings(section.over(namespace.settings))
    served.origin = section.handlers
    return served


def _imported(module_name: str, *, where: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as e:
        raise _not_imported(where + ": " + module_name, e) from e


def _not_imported(what: str, error: Exception) -> ConfigError:
    return ConfigError(f"{what} cannot be imported: {type(error).__name__}: {error}")

"""Where the configuration comes from: the file, a profile of it, the environment, flags.

Each source is a layer of plain data over those before it; sections are overlaid key by key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

import yaml

from pgprog.config.schema import Reader, hints_of, is_section, scalar_of
from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_DEFAULT_PATH = Path("pgprog.yaml")
_PREFIX = "PGPROG"
_DEEPEST = 50  # levels of a file; a configuration has six


@dataclasses.dataclass(frozen=True, slots=True)
class Layers:
    """Plain data laid over each other, and where a value that is not the file's came from."""

    plain: Mapping[str, object]
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def under(self, above: Mapping[str, object], *, origin: str) -> Layers:
        """Return these layers with *above* on top."""
        origins = dict.fromkeys(_paths(above), origin)
        return Layers(overlay(self.plain, above), {**self.origins, **origins})

    def under_value(self, path: str, value: object, *, origin: str) -> Layers:
        """Return these layers with one value on top, its *path* dotted."""
        *sections, last = path.split(".")
        above: dict[str, object] = {last: value}
        for key in reversed(sections):
            above = {key: above}
        return self.under(above, origin=origin)


def overlay(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Return *below* with the values of *above* in place of its own, section by section.

    A null over a section is one without keys: it changes nothing.
    """
    merged = dict(below)
    for key, value in above.items():
        beneath = merged.get(key)
        if not isinstance(beneath, Mapping):
            merged[key] = value
        elif isinstance(value, Mapping):
            merged[key] = overlay(beneath, value)
        elif value is not None:
            merged[key] = value
    return merged


def find_file(path: Path | None, *, environ: Mapping[str, str]) -> Path | None:
    """Return the file that applies: the one given, PGPROG_CONFIG, ./pgprog.yaml if it is there."""
    if path is not None:
        return path
    if named := environ.get("PGPROG_CONFIG"):
        return Path(named)
    return _DEFAULT_PATH if _DEFAULT_PATH.is_file() else None


def read_file(path: Path) -> Mapping[str, object]:
    """Return the sections of a YAML file; an empty file has none.

    Raises:
        ConfigError: The file cannot be read, is not YAML, repeats a key, or is no set of sections.
    """
    try:
        plain = yaml.load(path.read_bytes(), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as e:
        msg = f"cannot read {path}: {e.strerror}"
        raise ConfigError(msg) from e
    except yaml.YAMLError as e:
        msg = f"{path} is not YAML: {_problem(e)}"
        raise ConfigError(msg) from None  # its message has the line, which may hold a password
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        msg = f"{path} holds {type(plain).__name__}, not sections with keys"
        raise ConfigError(msg)
    return plain


def with_profiles(
    layers: Layers, profiles: object, *, chosen: str | None, class_: type, reader: Reader
) -> Layers:
    """Return *layers* with the *chosen* profile on top, if one is; check the others, too.

    A fault that is there without a profile is not told again for each.
    """
    overlays = _overlays(profiles, reader=reader)
    if chosen is not None and chosen not in overlays:
        known = ", ".join(overlays) or "none"
        reader.add_fault("profiles", f"there is no profile {chosen!r}; known: {known}")
    faults = {*_faults(layers, class_)}
    for name in overlays.keys() - {chosen}:
        profiled = layers.under(overlays[name], origin=f"profile {name}")
        reader.faults += [fault for fault in _faults(profiled, class_) if fault not in faults]
    return layers.under(overlays.get(chosen or "", {}), origin=f"profile {chosen}")


def _overlays(profiles: object, *, reader: Reader) -> Mapping[str, Mapping[str, object]]:
    """Return the sections of each profile; a null has none."""
    if profiles is None:
        return {}
    if not isinstance(profiles, Mapping):
        reader.add_fault("profiles", f"{profiles!r} is not a section with keys")
        return {}
    overlays = {}
    for name, plain in profiles.items():
        if plain is None or isinstance(plain, Mapping):
            overlays[str(name)] = plain or {}
        else:
            shown = "a text" if isinstance(plain, str) else repr(plain)  # perhaps a DSN
            reader.add_fault(f"profiles.{name}", f"{shown} is not a section with keys")
    return overlays


def _faults(layers: Layers, class_: type) -> list[str]:
    reader = Reader()
    reader.read(class_, layers.plain, origins=layers.origins)
    return reader.faults


def with_environ(layers: Layers, environ: Mapping[str, str], *, class_: type) -> Layers:
    """Return *layers* with what the environment says of *class_* and its sections on top.

    A field is ``PGPROG_FIELD``, one of a section ``PGPROG_SECTION_FIELD``; an empty variable says
    nothing.
    """
    for variable, (path, hint) in _variables(class_).items():
        if text := environ.get(variable):
            layers = layers.under_value(path, _from_text(text, hint), origin=variable)
    return layers


def check_variables(environ: Mapping[str, str], *, class_: type, reader: Reader) -> None:
    """Note each variable that begins like a section's and names no field of it.

    Other variables, even with our prefix, are left to their owners.
    """
    known = _variables(class_)
    beginnings = tuple(
        _variable(name) + "_" for name, hint in hints_of(class_).items() if is_section(hint)
    )
    for variable in environ:
        if variable not in known and variable.startswith(beginnings):
            reader.add_unknown(variable, known=known)


def _variables(class_: type) -> dict[str, tuple[str, object]]:
    """Return the path and the annotation that each variable is for."""
    variables: dict[str, tuple[str, object]] = {}
    for name, hint in hints_of(class_).items():
        if is_section(hint):
            for key, key_hint in hints_of(hint).items():
                variables[_variable(name, key)] = (f"{name}.{key}", key_hint)
        elif get_origin(hint) is not Mapping:
            variables[_variable(name)] = (name, hint)
    return variables


def _variable(*names: str) -> str:
    return "_".join((_PREFIX, *names)).upper()


def _from_text(text: str, hint: object) -> object:
    """Return the text itself where *hint* takes texts like it, else what YAML makes of it."""
    try:
        scalar_of(hint).parse(text)
    except (TypeError, ValueError):
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            return text
    return text


def _problem(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, and nothing of what stands there."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be read"
    return problem if mark is None else f"{problem}, line {mark.line + 1}, column {mark.column + 1}"


def _paths(plain: Mapping[str, object], under: str = "") -> Iterator[str]:
    """Yield the paths of the values of *plain*, of sections too."""
    for key, value in plain.items():
        path = f"{under}{key}"
        yield path
        if isinstance(value, Mapping):
            yield from _paths(value, f"{path}.")


class _Loader(yaml.SafeLoader):
    """Reads YAML and refuses a key that stands twice, where YAML would keep the last.

    What is wrong has its place; so has what is nested more deeply than any configuration, or, by
    an alias, in itself.
    """

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._around: list[yaml.Node | None] = []

    def compose_node(
        self,
        parent: yaml.Node | None,
        index: Any,  # noqa: ANN401 - PyYAML gives it numbers and nodes
    ) -> yaml.Node | None:
        """Return the next node; *parent* is the one that it stands in."""
        mark = None if parent is None else parent.start_mark
        self._around.append(parent)
        if len(self._around) > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", mark)
        node = super().compose_node(parent, index)
        if any(node is each for each in self._around):
            raise yaml.composer.ComposerError(None, None, "it is nested in itself", mark)
        self._around.pop()
        return node

    def construct_object(  # PyYAML's signature
        self,
        node: yaml.Node,
        deep: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:  # noqa: ANN401
        """Return the value of a node; PyYAML says nothing of a day that there is not."""
        try:
            return super().construct_object(node, deep)
        except ValueError as e:
            raise yaml.constructor.ConstructorError(None, None, str(e), node.start_mark) from e

    def construct_mapping(  # PyYAML's signature
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002
    ) -> dict[Hashable, Any]:
        """Return the mapping, after a look at its keys."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

"""From an old stored form to the present one, a version at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pgprog.codec import Misfit
from pgprog.errors import ConfigError
from pgprog.namespace.arguments import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[[Any], object]")


class Upcasts:
    """The functions that turn each version of one thing into the next, up to *latest*.

    *what* names the thing in messages: ``state of namespace orders``.
    """

    def __init__(self, what: str, *, latest: int) -> None:
        self._what = what
        self._latest = latest
        self._functions: dict[int, Callable[[Any], object]] = {}

    def add(self, function: F, *, version: int) -> F:
        """Take the function from *version* to the next, and return it.

        Raises:
            ConfigError: There is one, or no version comes after it.
        """
        if version in self._functions:
            first, second = name_of(self._functions[version]), name_of(function)
            msg = f"version {version} of {self._what} has two upcasts: {first}, {second}"
            raise ConfigError(msg)
        if not 1 <= version < self._latest:
            msg = (
                f"{name_of(function)} is from version {version} of {self._what}, "
                f"and the latest version is {self._latest}"
            )
            raise ConfigError(msg, hint="raise state_version of the Namespace")
        self._functions[version] = function
        return function

    def apply_known(self, plain: object, *, version: int) -> object:
        """Return *plain* likewise; a version without a function changes nothing.

        Raises:
            Misfit: *version* is after the latest.
        """
        self._check(version)
        for step in range(version, self._latest):
            if step in self._functions:
                plain = self._functions[step](plain)
        return plain

    def apply(self, plain: object, *, version: int) -> object:
        """Return *plain* of *version* in the form of the latest.

        Raises:
            Misfit: A function is missing on the way, or *version* is after the latest.
        """
        self._check(version)
        for step in range(version, self._latest):
            if step not in self._functions:
                msg = f"there is no upcast from version {step} of {self._what}"
                raise Misfit(msg)
            plain = self._functions[step](plain)
        return plain

    def _check(self, version: int) -> None:
        if version > self._latest:
            msg = f"version {version} of {self._what} is after the latest here, {self._latest}"
            raise Misfit(msg)

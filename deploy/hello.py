"""Handlers for docker-compose.yml; put your own in their place."""

from __future__ import annotations

from pgprog import Intent, Namespace, Step

hello = Namespace("hello")


@hello.init
def begin(step: Step[object]) -> Intent[object]:
    """Begin with nobody greeted."""
    return Intent(state=0)


@hello.call
def greet(step: Step[int], name: str) -> Intent[int, str]:
    """Greet one more."""
    return Intent(state=step.state + 1, response=f"Hello {name}, you are number {step.state + 1}")

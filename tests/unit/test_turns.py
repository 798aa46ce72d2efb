"""Namespaces that take turns."""

from __future__ import annotations

from pgprog.engine.turns import Turns


def test_namespaces_take_turns_and_each_keeps_its_order() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.add(item[0], item)

    taken = [turns.take() for _ in range(4)]
    turns.add("c", "c2")
    taken += [turns.take() for _ in range(len(turns))]

    assert taken == ["a1", "b1", "c1", "a2", "b2", "a3", "c2"]
    assert not turns

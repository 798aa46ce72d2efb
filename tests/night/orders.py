"""The handlers that the night breaks: each deploy copies them beside the configuration."""

from __future__ import annotations

import asyncio
from typing import Any

from pgprog import Intent, Namespace, Step

orders = Namespace("orders", retry={"max_attempts": 1})
leaked: list[bytes] = []


@orders.init
async def begin(step: Step[Any], args: dict[str, Any]) -> Intent[Any, Any]:
    return Intent(state=args)


@orders.call
async def pay(step: Step[Any]) -> Intent[Any, Any]:
    await asyncio.sleep(0.05)
    return Intent(response=step.state["price"])


@orders.call
async def leak(step: Step[Any], args: dict[str, Any]) -> None:
    leaked.append(b"x" * (args["mebibytes"] << 20))

"""A client program: submits all its calls before it awaits the first answer.

python caller.py DSN CALLS PROCESS…
"""

from __future__ import annotations

import asyncio
import json
import sys

from pgprog import AsyncClient, Request


async def main(dsn: str, calls: int, processes: list[str]) -> None:
    """Print the answers of each process as one JSON object."""
    async with AsyncClient(dsn) as client:
        requests = [
            Request(
                "call",
                "ledger",
                process,
                {"amount": 1},
                name="add",
                idempotency_key=f"{process} {number}",
            )
            for number in range(calls)
            for process in processes
        ]
        outcomes = await client.submit_many(requests, timeout=60)
        print("submitted", flush=True)
        answers: dict[str, list[int]] = {process: [] for process in processes}
        for request, task in zip(requests, outcomes, strict=True):
            if isinstance(task, Exception):
                raise task
            answers[request.process_id].append(await task.wait(timeout=120))
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))

"""What production notices of a preview that misbehaves beside it, on the same machine: its p99 under load."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import plane
from benchmarks.measure import Figure

ROUNDS, REQUESTS, CONNECTIONS = 7, 4_000, 8
ROGUE = """\
import os
import time

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match request.url.rpartition("/")[2]:
            case "loop":
                while True:
                    pass
            case "exit":
                os._exit(3)
            case "memory":
                kept = bytearray(2 << 30)
            case "raise":
                raise RuntimeError("as it was told")
        return Response("so far so good")
"""
_WAYS = {
    "an endless loop": "/loop",
    "`os._exit`": "/exit",
    "an allocation of 2 GB": "/memory",
    "an exception": "/raise",
}


def figures(folder: Path) -> list[Figure]:
    made = plane.project(folder / "project", {"shop": plane.HELLO})
    plane.svcctl(made, "env", "create", "preview")
    (made / "shop/worker.py").write_text(ROGUE)
    plane.svcctl(made, "deploy", "--env", "preview")
    with plane.serving(made, "serve", "--blocked", "1") as served:
        quiet: list[float] = []
        beside: dict[str, list[float]] = {way: [] for way in _WAYS}
        for _ in range(ROUNDS):
            quiet += _load(served)
            for way, path in _WAYS.items():
                with _misbehaving(served, path):
                    beside[way] += _load(served)
    base = _p99(quiet)
    worst = max(beside, key=lambda way: _p99(beside[way]))
    told = ", ".join(f"{way} {_p99(taken) * 1000:.1f}" for way, taken in beside.items())
    return [
        Figure(
            "production's p99 under load beside a preview that misbehaves / beside one that is idle",
            _p99(beside[worst]) / base,
            4,
            detail=f"{base * 1000:.1f} ms; beside {told} ms",
        )
    ]


def _load(served: plane.Plane) -> list[float]:
    return plane.load(served.port, "shop.localhost", connections=CONNECTIONS, requests=REQUESTS)


@contextmanager
def _misbehaving(served: plane.Plane, path: str) -> Iterator[None]:
    """Asked for it again as soon as it has answered, or died of it."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(random.uniform(0, 0.02)):
            with suppress(OSError, RuntimeError):
                plane.get(served.port, "preview--shop.localhost", path)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _p99(taken: list[float]) -> float:
    return sorted(taken)[len(taken) * 99 // 100]

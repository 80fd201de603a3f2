"""What a second worker is good for: a handler that computes, asked by more clients than one worker can serve."""

import statistics
from pathlib import Path

from benchmarks import plane
from benchmarks.measure import Figure, timed

ROUNDS, REQUESTS, CONNECTIONS = 5, 400, 8
COMPUTING = """\
import time

from workers import Response


async def fetch(request):
    end = time.thread_time() + 0.005
    while time.thread_time() < end:
        pass
    return Response("computed")
"""


def figures(folder: Path) -> list[Figure]:
    made = plane.project(folder / "project", {"shop": COMPUTING})
    with plane.serving(made, "serve", "--workers", "1") as one, plane.serving(made, "serve", "--workers", "2") as two:
        while len(two.workers) < 2:
            _load(two)
        _load(one)
        rounds = [(timed(lambda: _load(two)), timed(lambda: _load(one))) for _ in range(ROUNDS)]
    ratio = statistics.median(both / single for both, single in rounds)
    rate = REQUESTS / statistics.median(both for both, _ in rounds)
    detail = f"{rate:.0f} requests/s; the machine has two processors, and the clients are on them too"
    return [Figure("a computing handler's time for many requests, two workers / one", ratio, 0.75, detail=detail)]


def _load(served: plane.Plane) -> None:
    plane.load(served.port, "shop.localhost", connections=CONNECTIONS, requests=REQUESTS)

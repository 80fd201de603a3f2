"""One call over a service binding, by the slope over calls in one request, against the same call without us and over
the network.

A handler in a worker of `svcctl serve` takes the times itself, so the loop, the collector and what lies around a
request are a worker's. What goes over the network is asked from here, between those requests.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import uvloop

from benchmarks import plane
from benchmarks.measure import Figure

ROUNDS, ASKED = 60, 10
BACK = """\
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("Welcome!")

    async def check(self, token):
        return True
"""
FRONT = (
    BACK.replace("class Default", "class Same")
    + """

from time import perf_counter


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        ctx, env = self.ctx, self.env
        kinds = {
            "bare fetch": lambda: Same(ctx, env).fetch(request),
            "fetch": lambda: env.BACK.fetch(request),
            "bare call": lambda: Same(ctx, env).check("token"),
            "call": lambda: env.BACK.check("token"),
        }
        return Response.json({name: [await times(each, n) for n in range(0, 51, 10)] for name, each in kinds.items()})


async def times(begin, count):
    start = perf_counter()
    for _ in range(count):
        await begin()
    return perf_counter() - start
"""
)
BINDING = '[services.front.bindings]\nBACK = { service = "back" }\n'
COUNTS = range(0, 51, 10)


def figures(folder: Path) -> list[Figure]:
    made = plane.project(folder / "project", {"front": FRONT, "back": BACK}, BINDING)
    with plane.bare_uvicorn(folder / "bare") as bare, plane.serving(made) as served:
        taken: dict[str, list[list[float]]] = {}
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_rounds(served, f"http://localhost:{bare.port}/", taken))
    cost = {name: _slope(times) for name, times in taken.items()}
    return [_figure("fetch", 2.5, cost), _figure("call", 1.5, cost)]


def _figure(name: str, limit: float, cost: dict[str, float]) -> Figure:
    one = cost[name]
    bare = f"without binding {cost[f'bare {name}'] * 1e6:.2f} us"
    others = [f"{other} {cost[other] / one:,.0f} x" for other in ("httpx.ASGITransport", "aiohttp", "httpx")]
    what = "`fetch`" if name == "fetch" else "method with immutable arguments"
    return Figure(f"one binding call, {what}", one * 1e6, limit, "us", "; ".join([bare, *others]))


async def _rounds(served: plane.Plane, url: str, taken: dict[str, list[list[float]]]) -> None:
    async with aiohttp.ClientSession() as session, httpx.AsyncClient() as client:
        scope: dict[str, Any] = {}
        exec(plane.RAW, scope)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(scope["app"])) as inside:

            async def by_aiohttp() -> None:
                async with session.get(url) as response:
                    await response.read()

            for _ in range(ROUNDS):
                for name, times in json.loads(served.get("front")).items():
                    taken.setdefault(name, []).append(times)
                for name, ask in (
                    ("aiohttp", by_aiohttp),
                    ("httpx", lambda: client.get(url)),
                    ("httpx.ASGITransport", lambda: inside.get(url)),
                ):
                    taken.setdefault(name, []).append([0.0, await _time(ask)])


async def _time(ask: Callable[[], Awaitable[object]]) -> float:
    """Of ten requests, as of one range of calls in a handler."""
    start = time.perf_counter()
    for _ in range(ASKED):
        await ask()
    return time.perf_counter() - start


def _slope(rounds: list[list[float]]) -> float:
    """Seconds that one more call costs: least squares through the medians."""
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return statistics.linear_regression(COUNTS[: len(medians)], medians).slope

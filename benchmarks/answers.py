"""CPU of one small HTTP request through `svcctl serve`, against bare uvicorn with an application that does nothing."""

import statistics
import time
from pathlib import Path

from benchmarks import plane
from benchmarks.measure import Figure

ROUNDS, REQUESTS, CONNECTIONS = 15, 2_000, 8


def figures(folder: Path) -> list[Figure]:
    made = plane.project(folder / "project", {"hello": plane.HELLO, "raw": plane.RAW})
    with plane.bare_uvicorn(folder / "bare") as bare, plane.serving(made) as served:
        handler_worker = _worker_of(served, "hello")
        raw_worker = _worker_of(served, "raw")
        router = served.process.pid
        at_rest = _rate(router)
        base, handler, raw, routing, handing = [], [], [], [], []
        for _ in range(ROUNDS):
            base.append(_cost(bare.port, "localhost", bare.process.pid))
            before, began = plane.cpu(router), time.perf_counter()
            handler.append(_cost(served.port, "hello.localhost", handler_worker))
            resting = at_rest * (time.perf_counter() - began)
            routing.append(plane.cpu(router) - before - resting)
            before = plane.cpu(router)
            plane.load(served.port, "hello.localhost", connections=CONNECTIONS, requests=CONNECTIONS)
            handing.append(plane.cpu(router) - before)
            raw.append(_cost(served.port, "raw.localhost", raw_worker))
    detail = f"{_us(handler)} us; bare uvicorn {_us(base)} us"
    kept = (statistics.median(routing) - statistics.median(handing)) / (REQUESTS - CONNECTIONS)
    handed = f"a new connection {_us(handing, CONNECTIONS)} us; at rest {at_rest * 1000:.1f} ms a second"
    with_router = [one + more / REQUESTS for one, more in zip(handler, routing, strict=True)]
    return [
        Figure("hello `workers` handler, CPU per request / bare uvicorn", _ratio(with_router, base), 1.6, "x", detail),
        Figure("hello ASGI application, CPU per request / bare uvicorn", _ratio(raw, base), 1.6, "x", f"{_us(raw)} us"),
        Figure("router's CPU per request on kept-alive connections", kept * 1e6, 0.5, "us", handed),
    ]


def _worker_of(served: plane.Plane, service: str) -> int:
    before = set(served.workers)
    served.get(service)
    (found,) = set(served.workers) - before
    return found


def _rate(pid: int) -> float:
    """What it costs while nobody asks, for each second: it follows the store and watches its workers."""
    before, began = plane.cpu(pid), time.perf_counter()
    time.sleep(2)
    return (plane.cpu(pid) - before) / (time.perf_counter() - began)


def _cost(port: int, host: str, pid: int) -> float:
    before = plane.cpu(pid)
    plane.load(port, host, connections=CONNECTIONS, requests=REQUESTS)
    return (plane.cpu(pid) - before) / REQUESTS


def _ratio(measured: list[float], base: list[float]) -> float:
    """Of the pairs of each round."""
    return statistics.median(one / zero for one, zero in zip(measured, base, strict=True))


def _us(seconds: list[float], count: int = 1) -> str:
    return f"{statistics.median(seconds) / count * 1e6:.1f}"

"""CPU of one small HTTP request through `svcctl serve`, against bare uvicorn with an application that does nothing."""

import statistics
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
        base, handler, raw, routing = [], [], [], []
        for _ in range(ROUNDS):
            base.append(_cost(bare.port, "localhost", bare.process.pid))
            before = plane.cpu(router)
            handler.append(_cost(served.port, "hello.localhost", handler_worker))
            routing.append((plane.cpu(router) - before) / REQUESTS)
            raw.append(_cost(served.port, "raw.localhost", raw_worker))
    detail = f"{_us(handler)} us; bare uvicorn {_us(base)} us"
    return [
        Figure(
            "hello `workers` handler, CPU per request / bare uvicorn", _ratio(handler, base, routing), 1.6, "x", detail
        ),
        Figure("hello ASGI application, CPU per request / bare uvicorn", _ratio(raw, base), 1.6, "x", f"{_us(raw)} us"),
        Figure("router's CPU per request on kept-alive connections", statistics.median(routing) * 1e6, 1, "us"),
    ]


def _worker_of(served: plane.Plane, service: str) -> int:
    before = set(served.workers)
    served.get(service)
    (found,) = set(served.workers) - before
    return found


def _cost(port: int, host: str, pid: int) -> float:
    before = plane.cpu(pid)
    plane.load(port, host, connections=CONNECTIONS, requests=REQUESTS)
    return (plane.cpu(pid) - before) / REQUESTS


def _ratio(measured: list[float], base: list[float], more: list[float] | None = None) -> float:
    """Of the pairs of each round."""
    added = more or [0.0] * len(base)
    return statistics.median((one + plus) / zero for one, plus, zero in zip(measured, added, base, strict=True))


def _us(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:.1f}"

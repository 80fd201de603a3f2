"""The first request to an environment that is stopped, and what an idle worker holds."""

import statistics
import time
from pathlib import Path

from benchmarks import plane
from benchmarks.measure import Figure, in_turn, timed

STARTS, MANY, FRONTS = 15, 100, 7
SMALL = plane.HELLO + "\n\nNAME = {!r}\n"


def figures(folder: Path) -> list[Figure]:
    hello = [f"hello{number:02}" for number in range(STARTS + 1)]
    project = plane.project(folder / "project", dict.fromkeys(hello, plane.HELLO))
    (folder / "bare").mkdir()
    (folder / "bare/hello.py").write_text(plane.RAW)
    with plane.serving(project) as served:
        cold = iter(hello)
        uvicorn, first = in_turn(
            STARTS, lambda: _uvicorn(folder / "bare"), lambda: timed(lambda: served.get(next(cold)))
        )
        time.sleep(1)  # what a start leaves behind is done
        idle = statistics.median(map(plane.unique, served.workers))
    many, unpacking, each = _many(folder / "many")
    return [
        Figure(
            "first request to a stopped environment / `python -m uvicorn` to its first answer",
            first / uvicorn,
            0.25,
            "x",
            f"{first * 1000:.0f} ms; uvicorn {uvicorn * 1000:.0f} ms",
        ),
        Figure(
            f"first request to a stopped deployment of {MANY} services",
            many * 1000,
            150,
            "ms",
            f"{unpacking * 1000:.0f} ms where their files must be unpacked",
        ),
        Figure("unique memory of each further idle worker", idle, 12, "MB"),
        Figure("unique memory of each further small service of a deployment", each * 1024, 50, "KB"),
    ]


def _uvicorn(folder: Path) -> float:
    start = time.perf_counter()
    process, port = plane.start_uvicorn(folder)
    try:
        plane.first_answer(port, "localhost")
        return time.perf_counter() - start
    finally:
        plane.end(process)


def _many(folder: Path) -> tuple[float, float, float]:
    """Seconds to the first answer, the same of the first start of all, and megabytes of each service. Several fronts
    reach the same many services; for the first of them their files are unpacked."""
    small = [f"s{number:02}" for number in range(MANY - 1)]
    fronts = [f"front{number}" for number in range(FRONTS)]
    code = {name: SMALL.format(name) for name in [*small, *fronts, "alone"]}
    bindings = "".join(
        f"[services.{front}.bindings]\n" + "".join(f'{name.upper()} = {{ service = "{name}" }}\n' for name in small)
        for front in fronts
    )
    with plane.serving(plane.project(folder, code, bindings)) as served:
        taken, memory = [], []
        served.get("alone")
        (alone,) = served.workers
        for front in fronts:
            before = set(served.workers)
            taken.append(timed(lambda name=front: served.get(name)))
            (worker,) = set(served.workers) - before
            memory.append(worker)
        time.sleep(1)
        more = statistics.median(map(plane.unique, memory)) - plane.unique(alone)
    return statistics.median(taken[1:]), taken[0], more / (MANY - 1)

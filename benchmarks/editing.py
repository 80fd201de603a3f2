"""`svcctl dev`: from its start to the first answer, and from a saved edit to an answer by the new code."""

import math
import statistics
import time
from pathlib import Path

from benchmarks import plane
from benchmarks.measure import Figure, in_turn

STARTS, EDITS = 9, 60
CODE = plane.HELLO.replace('"Hello, world!"', '"edit {}"')
OTHERS = {"auth": plane.HELLO, "cart": plane.HELLO}


def figures(folder: Path) -> list[Figure]:
    made = plane.project(folder / "project", {"shop": CODE.format(0), **OTHERS})
    (start,) = in_turn(STARTS, lambda: _start(made))
    with plane.serving(made, "dev") as served:
        served.get("shop")
        taken = sorted(_edit(made, served, number) for number in range(1, EDITS + 1))
    edits = f"median {statistics.median(taken) * 1000:.0f} ms, worst {taken[-1] * 1000:.0f} ms"
    return [
        Figure("`svcctl dev` to its first answer", start, 0.4, "s"),
        Figure("edit to new code served, p95", taken[math.ceil(EDITS * 0.95) - 1] * 1000, 100, "ms", edits),
    ]


def _start(folder: Path) -> float:
    start = time.perf_counter()
    with plane.serving(folder, "dev") as served:
        served.get("shop")
        return time.perf_counter() - start


def _edit(folder: Path, served: plane.Plane, number: int) -> float:
    wanted = f"edit {number}".encode()
    (folder / "shop/worker.py").write_text(CODE.format(number))
    start = time.perf_counter()
    while (told := served.get("shop")) != wanted:
        if time.perf_counter() - start > 20:
            raise RuntimeError(f"{wanted!r} is not served; {told!r} is")
        time.sleep(0.001)
    taken = time.perf_counter() - start
    time.sleep(0.1)  # as long as a quick hand takes at the very least
    return taken

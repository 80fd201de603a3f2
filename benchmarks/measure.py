"""Timing in pairs, and what a figure is."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SVCCTL = str(Path(sys.executable).with_name("svcctl"))


class Figure(NamedTuple):
    what: str
    measured: float
    limit: float
    unit: str = "x"
    detail: str = ""

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit


def in_turn(runs: int, *calls: Callable[[], float]) -> list[float]:
    """The median of each call's seconds; they take turns, so that a slow spell of the machine hits all of them."""
    return [statistics.median(times) for times in zip(*rounds(runs, *calls), strict=True)]


def rounds(runs: int, *calls: Callable[[], float]) -> list[list[float]]:
    """Each round's seconds, after one that warms up. Of what takes a millisecond, the ratio within a round says more
    than that of medians: a spell of the machine makes all of a round slower, but not half of all rounds."""
    for call in calls:
        call()
    return [[call() for call in calls] for _ in range(runs)]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def process(arguments: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> float:
    """Seconds of a whole process."""
    start = time.perf_counter()
    subprocess.run(
        arguments, cwd=folder, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **QUIET, **(environ or {})}
    )
    return time.perf_counter() - start


def peak_memory(arguments: Sequence[str], folder: Path) -> float:
    """Megabytes, of a child of its own."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **QUIET},
    )
    return int(done.stdout.split()[-1]) / (1 if sys.platform == "darwin" else 1024)


QUIET = {
    "SVCCTL_ACTOR": "bench <bench@example.com>",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "PYTHONDONTWRITEBYTECODE": "",  # users have byte code
}

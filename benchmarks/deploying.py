"""First deploys, small changes and nothing at all, against git on the same tree; memory of a large tree."""

import shutil
import subprocess
from pathlib import Path

from benchmarks import scenes
from benchmarks.measure import QUIET, SVCCTL, Figure, in_turn, peak_memory, process, timed

FILES = 10_000


def figures(folder: Path) -> list[Figure]:
    big = scenes.tree(folder / "big", FILES, 4096)
    small = scenes.tree(folder / "small", 1, 4096)
    return [_first(big), *_again(big, small), _memory(folder / "huge")]


def _first(big: Path) -> Figure:
    def by_git() -> float:
        shutil.rmtree(big / ".git", ignore_errors=True)
        scenes.git(big, "init", "-q")
        (big / ".git/info/exclude").write_text(".svcctl\n")
        return timed(lambda: [scenes.git(big, "add", "-A"), scenes.git(big, "write-tree")])

    def by_svcctl() -> float:
        shutil.rmtree(big / ".git", ignore_errors=True)
        shutil.rmtree(big / ".svcctl", ignore_errors=True)
        return process([SVCCTL, "deploy"], big, QUIET)

    git, svcctl = in_turn(5, by_git, by_svcctl)
    return Figure(
        f"first deploy of {FILES:,} files of 4 KiB / `git add -A && git write-tree`",
        svcctl / git,
        0.5,
        detail=f"{svcctl:.2f} s; git {git:.2f} s",
    )


def _again(big: Path, small: Path) -> list[Figure]:
    count = 0

    def changed(folder: Path) -> float:
        nonlocal count
        count += 1
        (folder / "app/worker.py").write_bytes(scenes.WORKER + f"# {count}\n".encode())
        return process([SVCCTL, "deploy"], folder, QUIET)

    def same(folder: Path) -> float:
        return process([SVCCTL, "deploy"], folder, QUIET)

    one, many, nothing = in_turn(7, lambda: changed(small), lambda: changed(big), lambda: same(big))
    return [
        Figure(
            f"deploy of {FILES:,} files, one changed, beyond a one-file service",
            many - one,
            0.4,
            "s",
            f"{many:.2f} s; one file {one:.2f} s",
        ),
        Figure(
            f"deploy of {FILES:,} files, none changed, beyond a one-file service",
            nothing - one,
            0.3,
            "s",
            f"{nothing:.2f} s",
        ),
    ]


def _memory(folder: Path) -> Figure:
    scenes.tree(folder, 1, 4096)
    for number in range(5):
        subprocess.run(
            ["dd", "if=/dev/urandom", f"of={folder}/app/{number}.bin", "bs=1M", "count=100", "status=none"], check=True
        )
    peak = peak_memory([SVCCTL, "deploy"], folder)
    return Figure("peak memory of a deploy of 500 MB", peak, 150, "MB")

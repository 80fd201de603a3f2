"""`python -m benchmarks [NAME …] [--markdown]`: all figures, or those of the named modules."""

import importlib
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Figure

MODULES = (
    "start_up", "deploying", "changes", "scale", "bindings", "answers", "waking", "switching", "neighbours", "crowd",
    "editing", "team",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    markdown = "--markdown" in arguments
    wanted = [name for name in arguments if not name.startswith("-")] or list(MODULES)
    found: list[Figure] = []
    for name in wanted:
        print(f"{name} …", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="svcctl-bench-") as folder:
            found += importlib.import_module(f"benchmarks.{name}").figures(Path(folder) / name)
    print(table(found) if markdown else "\n".join(map(line, found)))
    return 0 if all(figure.holds for figure in found) else 1


def line(figure: Figure) -> str:
    mark = "ok  " if figure.holds else "OVER"
    return f"{mark} {figure.what}: {figure.measured:.2f} {figure.unit} (at most {figure.limit:g}) {figure.detail}"


def table(figures: list[Figure]) -> str:
    rows = ["| what | measured | asked for | |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {each.what} | {each.measured:.2f} {each.unit} | ≤ {each.limit:g} {each.unit} | {each.detail} |"
        for each in figures
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

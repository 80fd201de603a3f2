"""How two commits lie to each other. Each answer is None where the repository can't know: no git, another clone, a
shallow one that lacks a commit or what joins the two."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from svcctl.model import LoggedCommit
from svcctl.provenance.git import Repository, find_trusted
from svcctl.text import mask_urls

WALK = 5_000
"""Commits that one look walks through at most: about a second."""
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEAD = re.compile(r"\x01([0-9a-f]{40,64}) ?((?:[0-9a-f]{40,64} ?)*)")


def log_between(folder: Path, old: str, new: str, paths: Sequence[Path] = ()) -> tuple[LoggedCommit, ...] | None:
    """Commits that touch `paths` (relative to `folder`; none: any) and only `old` (side a) or only `new` (side b) has,
    newest first."""
    form = "--format=%m%x00%H%x00%s%x00%an <%ae>"
    answer = _compare(folder, old, new, paths, "--left-right", "--encoding=UTF-8", form)
    if answer is None:
        return None
    return tuple(_logged(line) for line in answer.split("\n") if "\0" in line)


def ahead_behind(folder: Path, old: str, new: str, paths: Sequence[Path] = ()) -> tuple[int, int] | None:
    """How many commits `new` has and `old` has not, and the other way round."""
    answer = _compare(folder, old, new, paths, "--left-right", "--count")
    if answer is None:
        return None
    behind, ahead = answer.split()
    return int(ahead), int(behind)


class Compared(NamedTuple):
    """Two commits, and the paths (relative to the folder asked about) whose commits count."""

    old: str
    new: str
    paths: tuple[str, ...]


def ahead_behind_all(folder: Path, wanted: Collection[Compared]) -> dict[Compared, tuple[int, int]]:
    """As `ahead_behind`, for many at a time in four runs of git, however many there are. Merges count for nothing.
    Those that the repository can't tell are left out, and all where a walk of WALK commits does not join them."""
    repository = find_trusted(folder) if wanted else None
    if repository is None:
        return {}
    shas = sorted({sha for each in wanted for sha in (each.old, each.new) if _SHA.fullmatch(sha)})
    held = set(repository.git("rev-list", "--no-walk", "--ignore-missing", *shas, "--").line.split())
    graph = _graph(repository, sorted(held)) if held else None
    if graph is None:
        return {}
    return {each: _distance(graph, each) for each in wanted if {each.old, each.new} <= held}


class _Node(NamedTuple):
    parents: tuple[str, ...]
    files: list[str]


def _graph(repository: Repository, tips: Sequence[str]) -> dict[str, _Node] | None:
    """Every commit from the tips down to what all have in common."""
    base = repository.git("merge-base", "--octopus", *tips).line.split()
    if not base and _is_shallow(repository):
        return None
    form = ("--format=%x01%H %P", "--name-only", "-z", "--relative", "--no-renames", "--no-show-signature")
    answer = repository.git("log", f"--max-count={WALK}", *form, *tips, *(f"^{sha}" for sha in base), "--")
    graph = _nodes(answer.output.decode(errors="surrogateescape").split("\0"))
    return graph if answer.status == 0 and len(graph) < WALK else None


def _nodes(tokens: Iterable[str]) -> dict[str, _Node]:
    """`\\x01COMMIT PARENTS`, then the names of its files, the first one after a newline."""
    graph: dict[str, _Node] = {}
    files: list[str] = []
    for token in tokens:
        if head := _HEAD.fullmatch(token):
            files = []
            graph[head[1]] = _Node(tuple(head[2].split()), files)
        elif token:
            files.append(token.removeprefix("\n"))
    return graph


def _distance(graph: dict[str, _Node], wanted: Compared) -> tuple[int, int]:
    old, new = _reached(graph, wanted.old), _reached(graph, wanted.new)

    def touching(commits: set[str]) -> int:
        return sum(any(_inside(name, wanted.paths) for name in graph[sha].files) for sha in commits)

    return touching(new - old), touching(old - new)


def _reached(graph: dict[str, _Node], tip: str) -> set[str]:
    found: set[str] = set()
    waiting = [tip]
    while waiting:
        sha = waiting.pop()
        if sha in graph and sha not in found:
            found.add(sha)
            waiting += graph[sha].parents
    return found


def _inside(name: str, paths: Sequence[str]) -> bool:
    return any(path in (".", name) or name.startswith(path + "/") for path in paths)


def is_ancestor(folder: Path, ancestor: str, sha: str) -> bool | None:
    """A commit is an ancestor of itself."""
    repository = _holding(folder, ancestor, sha)
    if repository is None:
        return None
    status = repository.git("merge-base", "--is-ancestor", ancestor, sha).status
    if status == 1 and _is_shallow(repository):
        return None
    return {0: True, 1: False}.get(status)


def resolve_commit(folder: Path, text: str) -> str | None:
    """All digits of what a short hash, branch or tag means."""
    repository = find_trusted(folder)
    if repository is None or not text or not text.isprintable():
        return None
    answer = repository.git("rev-parse", "--verify", "--quiet", "--end-of-options", text + "^{commit}")
    return answer.line if answer.status == 0 else None


def _compare(folder: Path, old: str, new: str, paths: Sequence[Path], *options: str) -> str | None:
    repository = _holding(folder, old, new)
    if repository is None or (_is_shallow(repository) and repository.git("merge-base", old, new).status != 0):
        return None
    inside = [os.path.relpath(folder / path, folder) for path in paths]
    answer = repository.git("rev-list", *options, f"{old}...{new}", "--", *inside)
    return answer.line if answer.status == 0 else None


def _holding(folder: Path, *commits: str) -> Repository | None:
    """Commits come from what clients once claimed: anything but a whole hash never reaches git."""
    if not all(_SHA.fullmatch(sha) for sha in commits):
        return None
    repository = find_trusted(folder)
    if repository is None:
        return None
    return (
        repository if all(repository.git("cat-file", "-e", sha + "^{commit}").status == 0 for sha in commits) else None
    )


def _is_shallow(repository: Repository) -> bool:
    return repository.git("rev-parse", "--is-shallow-repository").line == "true"


def _logged(line: str) -> LoggedCommit:
    mark, sha, subject, author = line.split("\0")
    return LoggedCommit(sha=sha, subject=mask_urls(subject), author=author, side="a" if mark == "<" else "b")

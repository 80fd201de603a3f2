"""How two commits lie to each other. Each answer is None where the repository can't know: no git, another clone, a
shallow one that lacks a commit or what joins the two."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from svcctl.model import LoggedCommit
from svcctl.provenance.git import Repository, find_trusted

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


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
    return LoggedCommit(sha=sha, subject=subject, author=author, side="a" if mark == "<" else "b")

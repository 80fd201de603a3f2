"""The commit that code comes from, and how the files differ from it."""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from svcctl import digest
from svcctl.digest import Digest
from svcctl.errors import Refused
from svcctl.model import Commit
from svcctl.provenance.branches import branch_of
from svcctl.provenance.git import Repository, find
from svcctl.provenance.links import public_remote
from svcctl.text import mask_urls

MAX_FILES = 50
_LONGEST = 500
_STORE = b".svcctl"


class Difference(NamedTuple):
    """A file that differs from HEAD, by its path from the root of the work tree."""

    path: bytes
    committed: bytes
    """Mode and object in HEAD; empty for an untracked file."""


def commit_of(folder: Path, environ: Mapping[str, str], paths: Sequence[Path] = ()) -> Commit | None:
    """The commit checked out around `folder`; `dirty` when anything below `paths` (relative to `folder`; none: all of
    it) is staged, changed or untracked and not ignored. `files` are paths from the root of the work tree, at most 50;
    `patch` names the whole difference: equal when the files are. None too where all of `paths` is ignored or in a
    submodule: `folder` must lie in the repository that the code is from."""
    return commits_of(folder, environ, {"": paths})[""]


def commits_of(
    folder: Path, environ: Mapping[str, str], services: Mapping[str, Sequence[Path]]
) -> dict[str, Commit | None]:
    """As `commit_of`, for many services with one look at the files. Raises Refused where git does not trust the
    repository, or does not end."""
    repository = find(folder)
    head = _head(repository, environ) if repository else None
    if repository is None or head is None:
        return dict.fromkeys(services)
    places = {name: _places(repository, paths or (Path(),)) for name, paths in services.items()}
    asked = sorted({place for several in places.values() for place in several})
    differences = _differences(repository, asked)
    tracked = _tracked(repository, asked)
    return {name: _told(repository, head, several, differences, tracked) for name, several in places.items()}


def _head(repository: Repository, environ: Mapping[str, str]) -> Commit | None:
    form = "--format=%H%x00%s%x00%an <%ae>"
    answer = repository.git("rev-list", "--max-count=1", "--encoding=UTF-8", form, "HEAD", "--")
    if answer.status != 0 or not answer.output:
        return None
    sha, subject, author = answer.line.split("\n", 1)[1].split("\0")
    return Commit(
        sha=sha,
        branch=branch_of(repository, environ),
        subject=mask_urls(subject)[:_LONGEST],
        author=author[:_LONGEST],
        remote=_remote(repository),
    )


def _remote(repository: Repository) -> str | None:
    urls: dict[str, str] = {}
    for key, value in repository.config:
        if key.startswith("remote.") and key.endswith(".url"):
            urls.setdefault(key, value)
    url = urls.get("remote.origin.url") or (next(iter(urls.values())) if len(urls) == 1 else None)
    return public_remote(url) if url else None


def _places(repository: Repository, paths: Iterable[Path]) -> list[str]:
    """Relative to the root of the work tree; what lies outside it is not git's to know."""
    folder = repository.folder.resolve()
    absolute = [Path(os.path.normpath(folder / path)) for path in paths]
    return [str(path.relative_to(repository.root)) for path in absolute if path.is_relative_to(repository.root)]


def _told(
    repository: Repository, head: Commit, places: Sequence[str], differences: Sequence[Difference], tracked: set[str]
) -> Commit | None:
    mine = [difference for difference in differences if _below(difference.path, places)]
    if not mine:
        # A service whose files are all ignored (a repository of dotfiles around it) is not from that commit.
        return head if tracked.intersection(places) else None
    return msgspec.structs.replace(
        head,
        dirty=True,
        files=tuple(difference.path.decode(errors="replace") for difference in mine[:MAX_FILES]),
        patch=_digest(repository, mine),
    )


def _below(path: bytes, places: Iterable[str]) -> bool:
    return any(place == "." or (path + b"/").startswith(os.fsencode(place) + b"/") for place in places)


def _tracked(repository: Repository, places: Sequence[str]) -> set[str]:
    """Those that HEAD has."""
    listed = repository.git_on_files("ls-tree", "-z", "--name-only", "HEAD", "--", *places)
    return {os.fsdecode(name) for name in listed.output.split(b"\0") if name} | {"."}


def _differences(repository: Repository, places: Sequence[str]) -> list[Difference]:
    """Sorted by path."""
    if not places:
        return []
    answer = repository.git_on_files(
        "status",
        "--porcelain=v2",
        "-z",
        "--no-renames",
        "--no-ahead-behind",
        "--untracked-files=all",
        "--ignore-submodules=dirty",
        "--",
        *places,
    )
    if answer.status != 0:
        raise Refused(
            f"git can't tell what changed in {repository.root}: {answer.complaint.strip()}",
            next=f"git -C {repository.root} status",
        )
    found = (_difference(line) for line in answer.output.split(b"\0") if line)
    return sorted(one for one in found if _STORE not in one.path.split(b"/"))


def _difference(line: bytes) -> Difference:
    match line[:1]:
        case b"1":
            _, _, _, mode, _, _, committed, _, path = line.split(b" ", 8)
        case b"u":
            _, _, _, _, mode, _, _, _, committed, _, path = line.split(b" ", 10)
        case _:
            return Difference(line[2:], b"")
    return Difference(path, mode + b" " + committed)


def _digest(repository: Repository, differences: Iterable[Difference]) -> Digest:
    """Over each path, what HEAD has there and what the disk has; each part with its length before it."""
    parts: list[bytes] = []
    for path, committed in differences:
        parts += (path, committed, _content(repository.root / os.fsdecode(path)))
    return digest.of("patch", b"".join(b"%d:%s," % (len(part), part) for part in parts))


def _content(path: Path) -> bytes:
    """Kind, mode and digest of what is on the disk now; a submodule or nested repository counts by its HEAD."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return b"link " + os.fsencode(path.readlink())
        if stat.S_ISREG(mode):
            return _file_content(path)
    except FileNotFoundError:
        return b"gone"
    except OSError:
        return b"unreadable"
    if stat.S_ISDIR(mode):
        return b"folder " + Repository(path).git("rev-parse", "--verify", "--quiet", "HEAD").output
    return b"special"


def _file_content(path: Path) -> bytes:
    # The file may have become a link or a FIFO since it was looked at.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        kind = b"program " if os.fstat(descriptor).st_mode & stat.S_IXUSR else b"file "
        return kind + hashlib.file_digest(file, "sha256").digest()

"""Edits, as they are saved.

Each folder is watched by itself, those that nobody edits by hand left out: the kernel's watches are few, and a handler
that writes byte code or a database must not start itself anew. What a `.gitignore` names is no edit either; that is
looked up when something changes, because reading the patterns takes longer than everything else at a start.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_FOLDERS = frozenset(
    {
        ".direnv", ".eggs", ".git", ".hg", ".hypothesis", ".idea", ".mypy_cache", ".nox", ".pytest_cache",
        ".ruff_cache", ".svcctl", ".svn", ".tox", ".venv", ".vscode", "__pycache__", "node_modules",
    }
)  # fmt: skip
_FILES = re.compile(
    r".*\.py[cod]|.*\.sw[a-z]|.*~|\.#.*|#.*#|4913|sed\w{6}|\.DS_Store|.*___jb_(tmp|old)___"  # byte code, editors' own
    r"|.*\.(tmp|log|pid|db|sqlite|sqlite3)(-\w+)?",  # what handlers write
    re.DOTALL,
)
_STEP = 20
"""Milliseconds without a change, after one, until it is told; and between two looks."""
_DEBOUNCE = 100
_LOOK = 1_000
_POLL = 300
_COARSE = 0.02
"""Seconds by which a file system's clock may lag."""

Changed = Callable[[frozenset[str]], None]


class Watch:
    """Calls `changed` with absolute paths, in a thread of its own. `files` are told of always."""

    def __init__(
        self,
        folders: Collection[str],
        files: Collection[str],
        changed: Changed,
        failed: Callable[[str], None],
        *,
        since: float,
        polling: bool = False,
    ) -> None:
        """What was saved after `since`, in seconds since 1970, is told first."""
        self._folders = folders
        self._files = frozenset(files)
        self._changed = changed
        self._failed = failed
        self._since = since
        self._polling = polling
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._follow(frozenset(self._everything()))
            except FileNotFoundError:  # a folder went as it was about to be watched
                continue
            except OSError as error:
                if self._polling:
                    self._failed(f"edits are not seen: {error}")
                    return
                self._failed(f"edits are looked for every {_POLL} ms, because they can't be watched: {error}")
                self._polling = True

    def _everything(self) -> Iterator[str]:
        for folder in self._folders:
            yield from _below(folder)
        # Folders of services may go and come back: those above tell.
        above = {os.path.dirname(path) for path in (*self._folders, *self._files)}  # noqa: PTH120
        yield from filter(os.path.isdir, above)

    def _follow(self, folders: frozenset[str]) -> None:
        """Until there are other folders."""
        from watchfiles._rust_notify import RustNotify

        with RustNotify(sorted(folders), False, self._polling, _POLL, False, True) as notify:
            if frozenset(self._everything()) != folders:
                return  # a folder came after they were listed and before they were watched: nobody told of it
            self._tell(self._missed(folders))
            while not self._ending.is_set():
                looked = time.time()
                found = notify.watch(_DEBOUNCE, _STEP, _LOOK, self._ending)
                if isinstance(found, str):
                    _warm_up()
                    continue
                paths = frozenset(path for _, path in found)
                self._tell(paths)
                if any(path in folders or _is_new_folder(path) for path in paths):
                    self._since = looked  # what was put into a new folder came before the news of it
                    return

    def _tell(self, paths: Iterable[str]) -> None:
        if edits := frozenset(path for path in paths if path in self._files or self._is_edit(path)):
            self._changed(edits)

    def _missed(self, folders: Iterable[str]) -> Iterator[str]:
        """What was saved before these folders were watched."""
        for folder in folders:
            with suppress(OSError), os.scandir(folder) as found:
                yield from (entry.path for entry in found if entry.is_file() and self._is_new(entry.stat()))

    def _is_new(self, found: os.stat_result) -> bool:
        return found.st_mtime > self._since - _COARSE

    def _is_edit(self, path: str) -> bool:
        """In a folder of services, and of interest."""
        name = os.path.basename(path)  # noqa: PTH119
        if name in _FOLDERS or _FILES.fullmatch(name):
            return False
        return any(_lies_in(path, folder) for folder in self._folders) and not is_ignored(path)


def _is_new_folder(path: str) -> bool:
    return os.path.basename(path) not in _FOLDERS and os.path.isdir(path)  # noqa: PTH112, PTH119


def _below(folder: str) -> Iterator[str]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as found:
                entries = list(found)
        except OSError:
            continue
        if here != folder and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        yield here
        waiting += [
            entry.path for entry in entries if entry.name not in _FOLDERS and entry.is_dir(follow_symlinks=False)
        ]


def is_ignored(path: str) -> bool:
    """By the .gitignore files of its repository."""
    from svcctl.bundle.selection import Selection, Standing, deeper, layers_above, repository_top
    from svcctl.errors import Refused

    parent = Path(path).parent
    top = repository_top(parent)
    selection = Selection((), ())
    layers, base, here = layers_above(top, top), "", top
    try:
        for part in Path(path).relative_to(top).parts:
            layers = deeper(layers, os.fspath(here / ".gitignore"), base)
            here /= part
            name = f"{part}/" if here.is_dir() else part
            if selection.standing(Standing.OPEN, layers, base + name, base + name, name) is Standing.IGNORED:
                return True
            base += f"{part}/"
    except Refused:  # one that can't be read ignores nothing
        return False
    return False


def _warm_up() -> None:
    """The first edit is as quick as the next."""
    import svcctl.bundle.selection  # noqa: F401


def services_of(paths: Iterable[str], folders: dict[str, tuple[str, ...]]) -> set[str]:
    """Whose folders the paths lie in."""
    return {
        service
        for service, places in folders.items()
        if any(_lies_in(path, place) for path in paths for place in places)
    }


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)

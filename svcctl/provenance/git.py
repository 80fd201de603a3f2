"""Git as a program, run so that nothing but git runs.

A repository's configuration can name programs for nearly everything git does. What is done about each:

    hooks, fsmonitor            switched off in every call
    aliases, pagers, editors    plumbing commands alone; output is never a terminal
    diff.external, textconv     no call asks git for a text diff
    gpg (log.showSignature)     `rev-list`, which never checks signatures; the one `log` is told not to
    filters (clean, process)    every configured one is set to nothing before git looks at files. So a file behind a
                                filter (git-lfs) that was touched since git last looked counts as changed
    lazy fetch, ssh, credential no transport is allowed, so a partial or shallow clone answers from what it has
    submodules                  never entered: their own configuration would be read
    GIT_* of a hook we run in   dropped: `GIT_DIR` would point every question at another repository
"""

import os
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from svcctl.errors import Refused

OLDEST = (2, 31)
"""The first git that takes any configuration key from its environment, also one with `=` in it."""

_PATIENCE = 60.0

_KEPT = {
    "GIT_CEILING_DIRECTORIES",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_EXEC_PATH",
}
_SET = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_OFF = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    # A user's own ignore file is none of the repository's, and the bundler does not read it either.
    "core.excludesFile": os.devnull,
    "status.submoduleSummary": "false",
}


class Answer(NamedTuple):
    status: int
    output: bytes
    complaint: str

    @property
    def line(self) -> str:
        return self.output.decode(errors="replace").rstrip("\n")


class Repository:
    """The repository that `folder` lies in."""

    def __init__(self, folder: Path, *, patience: float = _PATIENCE) -> None:
        self.folder = folder
        self._patience = patience

    def git(self, *arguments: str) -> Answer:
        return _run(self.folder, arguments, _OFF, self._patience)

    def git_on_files(self, *arguments: str) -> Answer:
        """For what compares files with the index, at the root of the work tree: there filters would run."""
        filters = [key for key, _ in self.config if key.startswith("filter.")]
        nothing = {key: "false" if key.endswith(".required") else "" for key in filters}
        return _run(self.root, arguments, _OFF | nothing, self._patience)

    @cached_property
    def root(self) -> Path:
        """Of the work tree, without symbolic links. `folder` itself in a bare repository."""
        answer = self.git("rev-parse", "--show-toplevel")
        return Path(os.fsdecode(answer.output.removesuffix(b"\n"))) if answer.status == 0 else self.folder

    @cached_property
    def config(self) -> list[tuple[str, str]]:
        """Keys (section and name in lower case) and values, in order, from all of git's files."""
        listed = self.git("config", "--null", "--list").output.decode(errors="surrogateescape")
        pairs = (item.partition("\n") for item in listed.split("\0") if item)
        return [(key, value) for key, _, value in pairs]


class Distrusted(Refused):
    """The repository belongs to another user."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"git does not trust the repository around {folder}: it belongs to another user",
            hint="so the commit that is deployed can't be recorded",
            next=f"git config --global --add safe.directory {_root_by_name(folder)}",
        )


def find(folder: Path) -> Repository | None:
    """None outside a work tree, or without a git that will do. Raises Distrusted."""
    if not _usable():
        return None
    repository = Repository(folder)
    answer = repository.git("rev-parse", "--is-inside-work-tree")
    if "dubious ownership" in answer.complaint or "unsafe repository" in answer.complaint:
        raise Distrusted(folder)
    return repository if answer.line == "true" else None


def find_trusted(folder: Path) -> Repository | None:
    """None also where git does not trust the repository: for questions that may stay without an answer."""
    try:
        return find(folder)
    except Distrusted:
        return None


def _root_by_name(folder: Path) -> Path:
    """Found without git, which refuses to say."""
    absolute = folder.absolute()
    return next((parent for parent in (absolute, *absolute.parents) if (parent / ".git").exists()), absolute)


def _usable() -> bool:
    if shutil.which("git") is None:
        return False  # GitPython refuses to be imported
    try:
        from git import Git
    except ImportError:
        return False  # so does it where git is there and does not start, as macOS's is before its tools are installed
    return Git().version_info[:2] >= OLDEST


def _run(folder: Path, arguments: Sequence[str], config: dict[str, str], patience: float) -> Answer:
    from git import Git

    environment = _SET | _as_environment(config)
    # `-C`, not a working directory: GitPython falls back to ours where it can't enter one.
    status, output, complaint = Git().execute(
        [*_dropping(environment), "git", "-C", str(folder), *arguments],
        env=environment,
        with_extended_output=True,
        with_exceptions=False,
        strip_newline_in_stdout=False,
        stdout_as_string=False,
        kill_after_timeout=patience,
    )
    if complaint.startswith("Timeout: "):
        raise Refused(
            f"git {arguments[0]} in {folder} did not end within {patience:g} seconds",
            hint="a file that git reads there may never end, or its disk may not answer",
            next=f"git -C {folder} status",
        )
    return Answer(status, output, complaint)


def _dropping(environment: dict[str, str]) -> list[str]:
    """GitPython adds to our own environment and can take nothing away."""
    inherited = [name for name in os.environ if name.startswith("GIT_") and name not in _KEPT | environment.keys()]
    return ["env", *(part for name in inherited for part in ("-u", name))] if inherited else []


def _as_environment(config: dict[str, str]) -> dict[str, str]:
    pairs = {}
    for number, (key, value) in enumerate(config.items()):
        pairs[f"GIT_CONFIG_KEY_{number}"] = key
        pairs[f"GIT_CONFIG_VALUE_{number}"] = value
    return pairs | {"GIT_CONFIG_COUNT": str(len(config))}

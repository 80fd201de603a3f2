"""gitignore patterns, matched as git does: against one file or folder at a time, on the way down.

pathspec translates each pattern to a regular expression that also matches whatever lies below a matching folder. A walk
that never enters an ignored folder needs the match of the entry alone; were it to take the other, `*`, `!*/`, `!*.py`
would let every file of every subfolder through. So the expressions are closed at the entry's end, and those of one sign
become one expression, since 10,000 files times 30 patterns are 300,000 calls. A pattern without a slash sees the name
alone, which is six times faster than the path.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pathspec.patterns.gitignore.base import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

_ANYWHERE = "^(?:.+/)?"
_FOLDER = "(?P<ps_d>/)"
_ENTRY = f"(?:{_FOLDER}|$)"
_UNANCHORED = (".", "/", _FOLDER)
_FOLDER_END = r"/\Z"
_ENTRY_END = r"(?<!/)/?\Z"


class _Run(NamedTuple):
    """Neighbouring patterns of one sign: among them order means nothing."""

    matches: bool
    names: re.Pattern[str] | None
    paths: re.Pattern[str] | None


class Patterns:
    """A list of patterns relative to one folder. The last that matches decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises ValueError with the pattern that is none."""
        self._runs = _runs([translated for line in lines if (translated := _translate(line))])

    def __bool__(self) -> bool:
        return bool(self._runs)

    def decide(self, path: str, name: str) -> bool | None:
        """Whether the last pattern that matches says yes, or no (`!`); None where none matches. `path` is relative to
        the patterns' folder, `name` its last part; both end in a slash for a folder."""
        for matches, names, paths in self._runs:
            if (names and names.match(name)) or (paths and paths.match(path)):
                return matches
        return None

    @classmethod
    def of_git(cls, content: bytes) -> "Patterns":
        """What a .gitignore file holds. git passes over a line that is no pattern, and so does this."""
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        return cls(line for raw in text.split("\n") if _is_pattern(line := raw.removesuffix("\r")))


def above(patterns: Sequence[str]) -> Patterns:
    """The folders to walk on the way to what `patterns` name by path: `a` and `a/b` for `a/b/*.js`."""
    folders = []
    for pattern in patterns:
        parts = pattern.strip("/").split("/")
        if not pattern.startswith("!"):
            folders += ["/" + "/".join(parts[:end]) + "/" for end in range(1, len(parts))]
    return Patterns(folders)


class _Translated(NamedTuple):
    matches: bool
    by_name: bool
    regex: str


def _translate(line: str) -> _Translated | None:
    if line.rstrip().endswith("/**/"):  # folders below, which pathspec takes for the folder itself
        line = line.rstrip() + "*/"
    try:
        pattern = GitIgnoreSpecPattern(line)
    except (GitIgnorePatternError, re.error) as error:
        raise ValueError(line) from error
    if pattern.include is None or pattern.regex is None:
        return None
    regex = pattern.regex.pattern
    by_name = regex.startswith(_ANYWHERE) and "/" not in line.rstrip().removeprefix("!").removesuffix("/")
    return _Translated(pattern.include, by_name, _closed(regex.removeprefix(_ANYWHERE) if by_name else regex))


def _closed(regex: str) -> str:
    """Matches the entry itself, not what lies below it."""
    if regex in _UNANCHORED:
        regex = ".*" + regex
    if regex.endswith("/"):  # `a/**` is everything below `a`, but not `a/`
        regex += "."
    # The look-behind: `x[!y]` must not take the slash of the folder `x/` for its last character.
    return f"(?:{regex.replace(_ENTRY, _ENTRY_END).replace(_FOLDER, _FOLDER_END)})"


def _runs(translated: Sequence[_Translated]) -> list[_Run]:
    """Last pattern first."""
    runs: list[_Run] = []
    same: list[_Translated] = []
    for one in reversed(translated):
        if same and same[0].matches is not one.matches:
            runs.append(_run(same))
            same = []
        same.append(one)
    return [*runs, _run(same)] if same else runs


def _run(same: Sequence[_Translated]) -> _Run:
    return _Run(
        same[0].matches,
        _either(one.regex for one in same if one.by_name),
        _either(one.regex for one in same if not one.by_name),
    )


def _either(regexes: Iterable[str]) -> re.Pattern[str] | None:
    joined = "|".join(regexes)
    return re.compile(joined, re.DOTALL) if joined else None


def _is_pattern(line: str) -> bool:
    try:
        _translate(line)
    except ValueError:
        return False
    return True

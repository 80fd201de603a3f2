"""Where keys and values stand in a TOML text: tomllib gives values without places.

The scanner reads a text that tomllib has accepted, so it only tells the parts apart and never judges them. It runs when
a problem or an origin has to name a line, and when an environment is renamed; loading a valid file never pays for it.
"""

import bisect
import re
import tomllib
from typing import NamedTuple

Path = tuple[str | int, ...]
"""A key path; an int is an index into an array."""

_SPACE = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?""""{0,2}|\'\'\'.*?\'\'\'\'{0,2}|"(?:[^"\\]|\\.)*"|'[^']*\'''',
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]*[^,\]}#\r\n\t ]")
_SHOWN = 100
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Key(NamedTuple):
    """One place where a key, or the element of an array, is written: `text[start:end]`."""

    path: Path
    start: int
    end: int


class Positions:
    """`keys` holds every spelling of every key, in the order of the file; `values` the span of each written value."""

    def __init__(self, text: str) -> None:
        self.keys: list[Key] = []
        self.values: dict[Path, tuple[int, int]] = {}
        _Scanner(text, self).document()
        self._first: dict[Path, int] = {}
        for key in self.keys:
            self._first.setdefault(key.path, key.start)
        self._breaks = [match.start() for match in re.finditer("\n", text)]

    def offset(self, path: Path) -> int:
        """Where `path` is first written; of what is not there, where the nearest table around it is."""
        while path and path not in self._first:
            path = path[:-1]
        return self._first.get(path, 0)

    def line(self, path: Path) -> int:
        return bisect.bisect_left(self._breaks, self.offset(path)) + 1


def dotted(path: Path) -> str:
    """`services.shop.secrets[2]`, quoted where TOML needs it."""
    written = ""
    for part in path:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            shown = part if len(part) <= _SHOWN else f"{part[:_SHOWN]}…"
            written += ("." if written else "") + (shown if _BARE.fullmatch(shown) else _quoted(shown))
    return written


def _quoted(part: str) -> str:
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in part.replace("\\", "\\\\"))
    return '"' + shown.replace('"', '\\"') + '"'


class _Scanner:
    def __init__(self, text: str, found: Positions) -> None:
        self.text = text
        self.found = found
        self.at = 0
        self.arrays: dict[Path, int] = {}
        """Arrays of tables, with the index of their newest element."""

    def document(self) -> None:
        table: Path = ()
        while self.peek():
            if self.peek() == "[":
                table = self.header()
            else:
                self.pair(table)

    def peek(self) -> str:
        """The next character that means something, or nothing at the end."""
        self.token(_SPACE)
        return self.text[self.at : self.at + 1]

    def token(self, pattern: re.Pattern[str]) -> tuple[int, int]:
        start = self.at
        match = pattern.match(self.text, start)
        self.at = match.end() if match else start
        return start, self.at

    def header(self) -> Path:
        brackets = 2 if self.text.startswith("[[", self.at) else 1
        self.at += brackets
        path = self.key(())
        self.at += brackets
        if brackets == 2:
            self.arrays[path] = self.arrays.get(path, -1) + 1
            path = self.newest(path)
        return path

    def pair(self, table: Path) -> None:
        path = self.key(table)
        self.at += len("=")
        self.value(path)

    def key(self, table: Path) -> Path:
        """A dotted key, and the space after it."""
        path = table
        while True:
            self.peek()
            start, end = self.token(_KEY)
            path = (*self.newest(path), _name(self.text[start:end]))
            self.found.keys.append(Key(path, start, end))
            if self.peek() != ".":
                return path
            self.at += len(".")

    def newest(self, path: Path) -> Path:
        return (*path, self.arrays[path]) if path in self.arrays else path

    def value(self, path: Path) -> None:
        opening = self.peek()
        start = self.at
        if opening == "[":
            self.array(path)
        elif opening == "{":
            self.inline_table(path)
        else:
            self.token(_STRING if opening in "\"'" else _SCALAR)
        self.found.values[path] = (start, self.at)

    def array(self, path: Path) -> None:
        self.at += len("[")
        index = 0
        while self.peek() != "]":
            element = (*path, index)
            self.found.keys.append(Key(element, self.at, self.at))
            self.value(element)
            index += 1
            if self.peek() == ",":
                self.at += len(",")
        self.at += len("]")

    def inline_table(self, path: Path) -> None:
        self.at += len("{")
        while self.peek() != "}":
            self.pair(path)
            if self.peek() == ",":
                self.at += len(",")
        self.at += len("}")


def _name(token: str) -> str:
    if not token.startswith(('"', "'")):
        return token
    name: str = tomllib.loads(f"k = {token}")["k"]
    return name

"""Typed access to a TOML table that collects problems instead of stopping at the first."""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from svcctl import names
from svcctl.config.positions import Path

_LENGTH = 1_024


_PROBLEMS = 200
"""Nobody reads more, and each costs a search for its nearest right spelling."""


class TooManyProblems(Exception):
    """Ends the reading of a file that is no services.toml at all."""


class Problem(NamedTuple):
    path: Path
    message: str
    see: Path | None = None
    """Another place that the message speaks of; the report adds its line."""


class Table:
    """One table of the file. What can't be read is a problem, and reads as absent."""

    def __init__(self, content: dict[str, Any], path: Path, problems: list[Problem]) -> None:
        self.content = content
        self.path = path
        self.problems = problems
        self._meant: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def lacks(self, key: str) -> bool:
        """Neither there nor misspelt, which is reported already."""
        return key not in self.content and key not in self._meant

    def wrong(self, message: str, *below: str | int, see: Path | None = None) -> None:
        self.problems.append(Problem((*self.path, *below), message, see))
        if len(self.problems) == _PROBLEMS:
            raise TooManyProblems

    def only(self, known: Iterable[str], elsewhere: Mapping[str, str]) -> None:
        """Reports each key that is not `known`; `elsewhere` says where the keys of other tables belong."""
        for key in (key for key in self.content if key not in known):
            if key in elsewhere:
                self.wrong(f"unknown key here; {elsewhere[key]}", key)
            elif guess := names.near(key, known):
                self._meant.add(guess)
                self.wrong(f"unknown key; did you mean {guess}?", key)
            else:
                self.wrong(f"unknown key; there is {', '.join(known)}", key)

    def text(self, key: str) -> str | None:
        value = self._typed(key, str, "a string")
        if value is None:
            return None
        text: str = value
        if wrong := _unfit(text):
            self.wrong(wrong, key)
            return None
        return text

    def flag(self, key: str) -> bool:
        return self._typed(key, bool, "true or false") is True

    def count(self, key: str) -> int | None:
        value: int | None = self._typed(key, int, "a whole number")
        if value is not None and not 0 < value < 2**53:
            self.wrong("must be more than 0 and less than 2^53", key)
            return None
        return value

    def texts(self, key: str) -> list[tuple[int, str]]:
        """The strings of an array, each with its index; those written twice are a problem."""
        found: dict[str, int] = {}
        for index, item in enumerate(self._typed(key, list, "an array of strings") or ()):
            if not isinstance(item, str):
                self.wrong(f"must be a string, not {described(item)}", key, index)
            elif wrong := _unfit(item):
                self.wrong(wrong, key, index)
            elif item in found:
                self.wrong(f"{item} stands here twice", key, index)
            else:
                found[item] = index
        return [(index, item) for item, index in found.items()]

    def table(self, key: str, wanted: str = "a table") -> "Table":
        return Table(self._typed(key, dict, wanted) or {}, (*self.path, key), self.problems)

    def tables(self, wanted: str = "a table") -> Iterator[tuple[str, "Table"]]:
        """Each key that holds a table, as all must."""
        for key, value in self.content.items():
            inner = self.table(key, wanted)
            if isinstance(value, dict):
                yield key, inner

    def _typed(self, key: str, kind: type, wanted: str) -> Any:
        value = self.content.get(key)
        if value is None or type(value) is kind:
            return value
        self.wrong(f"must be {wanted}, not {described(value)}", key)
        return None


def _unfit(text: str) -> str | None:
    if not text:
        return "must not be empty"
    if len(text) > _LENGTH:
        return f"is {len(text):,} characters long; {_LENGTH:,} is the limit"
    return None if text.isprintable() else "must not hold control characters"


def described(value: Any) -> str:
    """A value of the wrong type, for a message."""
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() if value.bit_length() > 100:  # Python refuses to write out thousands of digits
            return "a huge number"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "a table"
        case dt.date() | dt.time():
            return f"the date or time {value}"
    return f"a {type(value).__name__}"

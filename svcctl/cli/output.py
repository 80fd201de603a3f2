"""What commands print, as values: a command gives its answer and the blocks that show it to a person.

Three outputs over the same (`printing` chooses): JSON (the answer as one document), `plain` (no terminal: aligned,
whole, stable for grep and awk, times absolute) and `terminal` (tables, colours, "3 min ago").
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TextIO

import msgspec

from svcctl.errors import Refused
from svcctl.text import clean, mask_urls

Style = Literal["ok", "warn", "bad", "dim", "live", "add", "remove"]


class Cell(msgspec.Struct, frozen=True):
    text: str
    style: Style | None = None


class When(msgspec.Struct, frozen=True):
    """A time as models hold it (`2026-11-23T11:12:39.123Z`)."""

    at: str
    style: Style | None = None


class Instant(msgspec.Struct, frozen=True):
    """A time in a log: to the millisecond, never in words."""

    at: str
    style: Style | None = None


Content = str | int | Cell | When | Instant | None


class Column(msgspec.Struct, frozen=True):
    title: str
    right: bool = False
    wrap: bool = False
    """On a terminal too narrow, this column gives way: its text goes on below."""


class Table(msgspec.Struct, frozen=True):
    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Content]]
    title: str | None = None
    empty: str = "nothing"
    """What to say when there are no rows."""

    def heads(self) -> list[Column]:
        return [Column(column) if isinstance(column, str) else column for column in self.columns]


class Lines(msgspec.Struct, frozen=True):
    """One line each; a sequence of contents is one line, its parts joined by a space."""

    lines: Sequence[Content | Sequence[Content]]


class Fields(msgspec.Struct, frozen=True):
    """`label: value`, values aligned; those that are None are left out."""

    fields: Sequence[tuple[str, Content]]


class Tree(msgspec.Struct, frozen=True):
    label: Content
    children: Sequence["Tree"] = ()


class Patch(msgspec.Struct, frozen=True):
    """A unified diff."""

    text: str


class Verbatim(msgspec.Struct, frozen=True):
    """Text of svcctl's own, such as a script: byte for byte."""

    text: str


class Note(msgspec.Struct, frozen=True):
    """Worth knowing: what was left out, what to type next."""

    text: str


class Success(msgspec.Struct, frozen=True):
    text: str


Block = Table | Lines | Fields | Tree | Patch | Verbatim | Note | Success


class Output(Protocol):
    printed: bool
    """Whether an answer was printed, or its printing began: a second JSON document must not follow."""

    def show(self, answer: object, blocks: Iterable[Block]) -> None:
        """Print a command's answer. `blocks` is best a generator: with `--json` it never runs."""

    def stream(self, answer: object, blocks: Iterable[Block]) -> None:
        """Print one of many answers, as it comes. With `--json` each is one line: a list without an end would be no
        document."""

    def tell(self, blocks: Iterable[Block]) -> None:
        """Say something beside the answer, such as a plan before its question: on standard error."""


def write(stream: TextIO, text: str) -> None:
    """All of `text`, now. A full disk is told from a reader that went away, which is no error."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Refused(f"the output could not be written: {error.strerror}") from error


def write_bytes(stream: TextIO, content: bytes) -> None:
    """As `write`, for what a program reads that wants it byte for byte."""
    write(stream, "")
    try:
        stream.buffer.write(content)
        stream.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Refused(f"the output could not be written: {error.strerror}") from error


def shown(text: str) -> str:
    """Any text as it may reach a person: no control characters, no credentials in URLs."""
    return mask_urls(clean(text))


def parts(line: Content | Sequence[Content]) -> Sequence[Content]:
    """The contents of one line of `Lines`."""
    return [line] if line is None or isinstance(line, str | int | Cell | When | Instant) else line


def lines_of(tree: Tree) -> list[tuple[str, Content]]:
    """Each line of a tree: the branches before the label, and the label."""
    found: list[tuple[str, Content]] = [("", tree.label)]
    for child in tree.children:
        last = child is tree.children[-1]
        for number, (branches, label) in enumerate(lines_of(child)):
            if number == 0:
                found.append(("└── " if last else "├── ", label))
            else:
                found.append((("    " if last else "│   ") + branches, label))
    return found

"""Output where standard output is not a terminal: no colours, nothing cut, columns aligned, times absolute."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TextIO, assert_never

from svcctl.cli import times
from svcctl.cli.output import (
    Block,
    Column,
    Content,
    Fields,
    Instant,
    Lines,
    Note,
    Patch,
    Success,
    Table,
    Tree,
    Verbatim,
    When,
    lines_of,
    parts,
    shown,
    write,
)
from svcctl.text import clean_lines, mask_urls


class PlainOutput:
    """`now` is set on a terminal without colours: there a person reads, and times are relative."""

    def __init__(self, out: TextIO, err: TextIO, now: datetime | None = None) -> None:
        self.printed = False
        self._out = out
        self._err = err
        self._now = now

    def show(self, answer: object, blocks: Iterable[Block]) -> None:  # noqa: ARG002 - the program's half of the answer
        self.printed = True
        write(self._out, self._render(blocks))

    stream = show

    def tell(self, blocks: Iterable[Block]) -> None:
        write(self._err, self._render(blocks))

    def _render(self, blocks: Iterable[Block]) -> str:
        return "".join(f"{line}\n" for block in blocks for line in self._lines(block))

    def _lines(self, block: Block) -> Iterator[str]:
        match block:
            case Table():
                yield from self._table(block)
            case Lines(lines):
                for line in lines:
                    yield " ".join(map(self._text, parts(line)))
            case Fields(fields):
                yield from self._fields(fields)
            case Tree():
                yield from (branches + self._text(label) for branches, label in lines_of(block))
            case Patch(text):
                yield mask_urls(clean_lines(text)).removesuffix("\n")
            case Verbatim(text):
                yield text.removesuffix("\n")
            case Note(text):
                yield f"note: {shown(text)}"
            case Success(text):
                yield shown(text)
            case _:
                assert_never(block)

    def _text(self, content: Content) -> str:
        match content:
            case None:
                return ""
            case When(at):
                return times.ago(at, self._now) if self._now else times.absolute(at)
            case Instant(at):
                return times.of_day(at, self._now) if self._now else at
            case str() | int():
                return shown(str(content))
            case _:
                return shown(content.text)

    def _fields(self, fields: Sequence[tuple[str, Content]]) -> Iterator[str]:
        present = [(f"{label}:", self._text(content)) for label, content in fields if content is not None]
        wide = max((width(label) for label, _ in present), default=0)
        for label, text in present:
            yield f"{_pad(label, wide)}  {text}".rstrip()

    def _table(self, table: Table) -> Iterator[str]:
        """An empty cell is a `-`: every row has the same number of words for awk."""
        if table.title:
            yield shown(table.title)
        if not table.rows:
            yield shown(table.empty)
            return
        heads = table.heads()
        rows = [[column.title.upper() for column in heads]]
        rows += [[self._text(content) or "-" for content in row] for row in table.rows]
        widths = [max(width(row[place]) for row in rows) for place in range(len(heads))]
        for row in rows:
            yield "  ".join(map(_aligned, row, widths, heads)).rstrip()


def width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, wide: int) -> str:
    return text + " " * (wide - width(text))


def _aligned(text: str, wide: int, column: Column) -> str:
    return " " * (wide - width(text)) + text if column.right else _pad(text, wide)

"""Output on a terminal: the one module that imports rich."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, TextIO, assert_never

from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from svcctl.cli import times
from svcctl.cli.output import (
    Block,
    Cell,
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
from svcctl.text import clean, mask_urls

_STYLES = {
    "ok": "green",
    "warn": "yellow",
    "bad": "red",
    "dim": "dim",
    "live": "bold green",
    "add": "green",
    "remove": "red",
}


class TerminalOutput:
    def __init__(self, out: TextIO, err: TextIO, now: datetime) -> None:
        self.printed = False
        self._out = out
        self._err = err
        self._now = now

    def show(self, answer: object, blocks: Iterable[Block]) -> None:  # noqa: ARG002 - the program's half of the answer
        self.printed = True
        write(self._out, self._render(self._out, blocks))

    stream = show

    def tell(self, blocks: Iterable[Block]) -> None:
        write(self._err, self._render(self._err, blocks))

    def _render(self, stream: TextIO, blocks: Iterable[Block]) -> str:
        """Everything is written at once: rich would report a full disk as a bug."""
        console = Console(file=stream, highlight=False, markup=False, emoji=False, legacy_windows=False)
        with console.capture() as capture:
            for block in blocks:
                shape = self._renderable(block)
                if isinstance(shape, RichTable):
                    console.width = _room(console, shape)
                console.print(shape, soft_wrap=not isinstance(shape, RichTable))
        return capture.get()

    def _renderable(self, block: Block) -> RenderableType:
        match block:
            case Table():
                return self._table(block)
            case Lines(lines):
                return Text("\n").join(Text(" ").join(map(self._text, parts(line))) for line in lines)
            case Fields(fields):
                return self._fields(fields)
            case Tree():
                rows = lines_of(block)
                return Text("\n").join(Text.assemble((branches, "dim"), self._text(label)) for branches, label in rows)
            case Patch(text):
                return Text("\n").join(_patch_line(line) for line in text.splitlines())
            case Verbatim(text):
                return Text(text.removesuffix("\n"))
            case Note(text):
                return Text.assemble(("note: ", "yellow"), shown(text))
            case Success(text):
                return Text(shown(text), "green")
            case _:
                assert_never(block)

    def _text(self, content: Content) -> Text:
        match content:
            case None:
                return Text("")
            case When(at, style):
                return Text(times.ago(at, self._now), _STYLES[style] if style else "")
            case Instant(at, style):
                return Text(times.of_day(at, self._now), _STYLES[style] if style else "")
            case Cell(text, style):
                return Text(shown(text), _STYLES[style] if style else "")
            case _:
                return Text(shown(str(content)))

    def _fields(self, fields: Sequence[tuple[str, Content]]) -> RenderableType:
        present = [(f"{label}:", content) for label, content in fields if content is not None]
        wide = max((len(label) for label, _ in present), default=0)
        rows = [Text.assemble((label.ljust(wide) + "  ", "dim"), self._text(content)) for label, content in present]
        return Text("\n").join(rows)

    def _table(self, table: Table) -> RenderableType:
        """A column without a single value is left out: a person has no use for it, and width is short."""
        if not table.rows:
            return Text(shown(table.empty), "dim")
        title = shown(table.title) if table.title else None
        rich = RichTable(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
        rows = [[self._text(content) for content in row] for row in table.rows]
        used = [place for place in range(len(table.columns)) if any(row[place].plain for row in rows)]
        heads = table.heads()
        for place in used:
            column = heads[place]
            justify: Literal["left", "right"] = "right" if column.right else "left"
            rich.add_column(
                column.title,
                justify=justify,
                no_wrap=not column.wrap,
                overflow="fold",
                # Without it rich takes a cell of several words for one that can be broken, and cuts it.
                min_width=None if column.wrap else max(row[place].cell_len for row in rows),
            )
        for row in rows:
            rich.add_row(*(row[place] for place in used))
        return rich


def _room(console: Console, table: RichTable) -> int:
    """The terminal's width, or more: rather lines that the terminal breaks than names cut to an ellipsis."""
    needed: int = console.measure(table, options=console.options.update(max_width=10_000)).minimum
    return max(console.width, needed)


def _patch_line(line: str) -> Text:
    style = "bold" if line.startswith(("+++", "---")) else {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
    return Text(mask_urls(clean(line)), style)

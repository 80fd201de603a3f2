"""Log records as lines for a person: time, reference, request, level, message."""

from collections.abc import Iterable, Iterator

from svcctl import wire
from svcctl.cli.output import Block, Cell, Content, Instant, Lines, Style
from svcctl.runtime.records import Level, LogRecord

_STYLES: dict[Level, Style | None] = {"debug": "dim", "info": None, "warning": "warn", "error": "bad"}
_INDENT = "    "
_ID = 16
"""Characters of a request's id that are shown: its end, which tells it from its neighbours."""
_OURS = "svcctl"


def answer(record: LogRecord) -> dict[str, object]:
    """For `--json`: with its reference, as every object has one, and its message also where it was a request."""
    document: dict[str, object] = wire.full(record)
    return {"ref": record.ref or None} | document | {"message": record.text}


class LogLines:
    """Columns grow with what they hold, and stay so: what is to come is not known."""

    def __init__(self) -> None:
        self._widths = [0, 0]

    def blocks(self, records: Iterable[LogRecord]) -> Iterator[Block]:
        yield Lines([line for record in records for line in self._lines(record)])

    def _lines(self, record: LogRecord) -> Iterator[Content | list[Content]]:
        first, *more = record.text.replace("\t", _INDENT).rstrip("\n").split("\n")
        style = _STYLES[record.level]
        yield [
            Instant(record.at, "dim"),
            self._aligned(0, record.ref or _OURS),
            Cell(self._aligned(1, (record.request or "-")[-_ID:]), "dim"),
            Cell(f"{record.level:7}", style),
            Cell(first, style if record.level == "error" else None),
        ]
        for line in more:
            yield Cell(_INDENT + line, "dim" if record.level == "debug" else None)

    def _aligned(self, column: int, text: str) -> str:
        self._widths[column] = max(self._widths[column], len(text))
        return text.ljust(self._widths[column])

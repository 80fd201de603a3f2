"""Log records as `svcctl dev` shows them, while somebody looks at them."""

from collections.abc import Iterable, Iterator

from svcctl.cli.output import Block, Cell, Content, Lines, Style
from svcctl.runtime.records import Level, LogRecord

_STYLES: dict[Level, Style | None] = {"debug": "dim", "info": None, "warning": "warn", "error": "bad"}
_OURS = "svcctl"


def blocks(records: Iterable[LogRecord]) -> Iterator[Block]:
    """A request is `GET /carts 200 3.1 ms shop`; everything else has the service before it."""
    if lines := [line for record in records for line in _lines(record)]:
        yield Lines(lines)


def _lines(record: LogRecord) -> Iterator[list[Content]]:
    if record.source == "request":
        status = record.status or 0
        style: Style = "ok" if status < 400 else "warn" if status < 500 else "bad"
        time = Cell(f"{record.ms} ms", "dim")
        yield [record.method, record.path, Cell(str(status), style), time, Cell(record.service, "dim")]
    elif record.level != "debug" or record.source != "system":
        of = record.service or _OURS
        style_of_text = _STYLES[record.level] or ("dim" if record.source == "system" else None)
        for number, line in enumerate(record.text.replace("\t", "    ").rstrip("\n").split("\n")):
            yield [Cell(f"{of if number == 0 else ' ' * len(of)} |", "dim"), Cell(line, style_of_text)]

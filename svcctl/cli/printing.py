"""The output that fits: JSON where it was asked for, tables on a terminal, plain text elsewhere."""

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TextIO

from svcctl import wire
from svcctl.cli.output import Block, Output, write
from svcctl.cli.plain import PlainOutput


class JsonOutput:
    def __init__(self, out: TextIO, beside: Output) -> None:
        self.printed = False
        self._out = out
        self._beside = beside

    def show(self, answer: object, blocks: Iterable[Block]) -> None:  # noqa: ARG002 - a person's half of the answer
        self.printed = True
        write(self._out, wire.document(answer) + "\n")

    def stream(self, answer: object, blocks: Iterable[Block]) -> None:  # noqa: ARG002 - a person's half of the answer
        self.printed = True
        write(self._out, wire.line(answer) + "\n")

    def tell(self, blocks: Iterable[Block]) -> None:
        self._beside.tell(blocks)


def choose(*, json: bool, color: bool, now: datetime, out: TextIO | None = None, err: TextIO | None = None) -> Output:
    """The output that fits the streams: rich is imported for a terminal alone."""
    out, err = out or sys.stdout, err or sys.stderr
    if color and out.isatty() and not json:
        from svcctl.cli.terminal import TerminalOutput

        return TerminalOutput(out, err, now)
    plain = PlainOutput(out, err, now if out.isatty() else None)
    return JsonOutput(out, plain) if json else plain

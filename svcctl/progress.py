"""How long work tells that it goes on. The command line draws it; everything else stays silent."""

from typing import Protocol


class Progress(Protocol):
    def start(self, what: str, total: int | None = None) -> None:
        """`total` in the unit of `advance`; None where nobody knows."""

    def advance(self, by: int) -> None: ...

    def done(self) -> None: ...


class Silent:
    def start(self, what: str, total: int | None = None) -> None:
        pass

    def advance(self, by: int) -> None:
        pass

    def done(self) -> None:
        pass


SILENT = Silent()

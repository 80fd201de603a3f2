"""svcctl as it is typed, in this process: what it prints, and its status."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from svcctl.cli.main import run

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


class Shell:
    """A person in the project's folder. Times are printed as TIME."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.file = folder / "services.toml"
        self._capsys = capsys

    def __call__(self, *arguments: str, actor: str = "Ada <ada@example.com>") -> Said:
        status = run(["-C", str(self.folder), *arguments], {"SVCCTL_ACTOR": actor})
        out, err = self._capsys.readouterr()
        return Said(status, *(_TIME.sub("TIME", text).replace(f"-C {self.folder} ", "") for text in (out, err)))

    def done(self, *arguments: str) -> str:
        """Of a command that must succeed and has nothing to say beside its answer."""
        said = self(*arguments)
        assert (said.status, said.err) == (0, "")
        return said.out

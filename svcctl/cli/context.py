"""What one invocation works with, made when first asked for: a command pays only for what it uses."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from svcctl import faults
from svcctl.cli import printing
from svcctl.cli.output import Block, Note, Output
from svcctl.errors import NotFound, Refused
from svcctl.model import Project
from svcctl.progress import Progress

if TYPE_CHECKING:
    from svcctl.backend.base import Backend
    from svcctl.backend.store import Store

STORE = ".svcctl"


class Context:
    """Options write their values into it while the command line is read; commands read it afterwards."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.environ = environ or {}
        self.arguments = arguments
        self.clock = clock
        self.backend_option: str | None = None
        self.json = "--json" in _before_dashes(arguments)
        self.no_color = False
        self.verbose = False
        self._create = False
        self._when_printed: list[Callable[[], None]] = []
        self._closing = ExitStack()

    # ---- what the command works on

    @cached_property
    def folder(self) -> Path:
        """The current folder; `-C` sets it."""
        try:
            return Path.cwd()
        except FileNotFoundError as error:
            raise NotFound("the current folder was deleted", hint="go to another one, or name it with -C") from error

    def path(self, argument: str | Path) -> Path:
        """A path as typed, which `-C` moves."""
        return self.folder / argument

    @cached_property
    def file(self) -> Path | None:
        """services.toml, here or in a folder above."""
        from svcctl import config

        return config.find(self.folder)

    @cached_property
    def project(self) -> Project:
        from svcctl import config

        return config.load(self.required_file)

    @property
    def required_file(self) -> Path:
        if self.file is None:
            raise NotFound(f"there is no services.toml in {self.folder} or above it", next="svcctl init")
        return self.file

    @property
    def backend(self) -> "Backend":
        """Raises NotFound where nothing was deployed yet."""
        return self.store

    @cached_property
    def store(self) -> "Store":
        """The backend, for what is asked of the folder itself: verify, gc."""
        return open_store(self, create=self._create)

    def new_backend(self) -> "Backend":
        """For commands that may be a project's first: a store that does not exist is made."""
        self._create = True
        return self.backend

    @property
    def pending_folder(self) -> Path:
        """Beside the store that the command is sent to; for a remote one, beside services.toml."""
        location = backend_location(self)
        return (location if isinstance(location, Path) else self.required_file.parent / STORE) / "pending"

    @cached_property
    def progress(self) -> Progress:
        from svcctl.cli import progress

        return progress.of(sys.stderr, json=self.json)

    @cached_property
    def actor(self) -> str:
        from svcctl import provenance

        return provenance.actor(self.environ, self.folder)

    @cached_property
    def now(self) -> datetime:
        return self.clock()

    # ---- what it says

    @property
    def color(self) -> bool:
        return not (self.no_color or self.environ.get("NO_COLOR") or self.environ.get("TERM") == "dumb")

    @cached_property
    def output(self) -> Output:
        return printing.choose(json=self.json, color=self.color, now=self.now)

    def show(self, answer: object, blocks: Iterable[Block]) -> None:
        self.output.show(answer, blocks)

    def tell(self, *blocks: Block) -> None:
        self.output.tell(blocks)

    def when_printed(self, callback: Callable[[], None]) -> None:
        """Call it once the answer has reached standard output."""
        self._when_printed.append(callback)

    def printed(self) -> None:
        faults.point("answer.printed")
        for callback in self._when_printed:
            callback()

    # ---- its end

    def at_end(self, close: Callable[[], None]) -> None:
        self._closing.callback(close)

    def close(self) -> None:
        """Everything that was opened, newest first."""
        self._closing.close()


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    """Known before the command line is understood: its errors are JSON too."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def backend_location(context: Context) -> str | Path:
    """A URL, or the folder of the store: --backend > SVCCTL_BACKEND > `backend` in services.toml > `.svcctl` beside."""
    if typed := context.backend_option or context.environ.get("SVCCTL_BACKEND"):
        return typed if "://" in typed else context.path(typed)
    beside = context.required_file.parent
    said = context.project.backend
    if said and "://" in said:
        return said
    return beside / (said or STORE)


def open_store(context: Context, *, create: bool) -> "Store":
    return open_at(context, backend_location(context), create=create)


def open_at(context: Context, location: str | Path, *, create: bool) -> "Store":
    if isinstance(location, str):
        raise Refused(f"{location}: remote backends are not built yet", hint="name a folder")
    store = _opened(context, location, create=create)
    context.at_end(store.close)
    if store.made:
        _warn_of_network(context, location)
    return store


def open_again(context: Context) -> "Store":
    """The same store, as another process would; its closing is the caller's business."""
    location = backend_location(context)
    if isinstance(location, str):
        raise Refused(f"{location}: remote backends are not built yet", hint="name a folder")
    return _opened(context, location, create=False)


def _opened(context: Context, location: Path, *, create: bool) -> "Store":
    from svcctl.backend.store import Store

    return Store.open(
        location, actor=lambda: context.actor, clock=context.clock, environ=context.environ, create=create
    )


def _warn_of_network(context: Context, location: Path) -> None:
    from svcctl.backend.store.filesystem import network

    if kind := network(location):
        context.tell(Note(f"{location} lies on {kind}: a store is safe on a local disk alone; see --backend"))

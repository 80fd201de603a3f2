"""What one invocation works with, made when first asked for: a command pays only for what it uses."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from svcctl import faults
from svcctl.cli import printing
from svcctl.cli.output import Block, Note, Output
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Project
from svcctl.progress import Progress

if TYPE_CHECKING:
    from svcctl.backend.base import Backend
    from svcctl.backend.remote import Patience, Remote, Seen
    from svcctl.backend.store import Store
    from svcctl.sealing import SecretValue

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
        self.hasty = False
        """Whether no answer is better than one that is waited for."""
        self.token_from: str | None = None
        """The variable that has the token which an API is asked with."""
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

    def opened(self, argument: str | Path) -> BinaryIO:
        """A file as typed."""
        try:
            return self.path(argument).open("rb")
        except FileNotFoundError:
            raise NotFound(f"there is no file {argument}") from None
        except OSError as error:
            raise UsageError(f"{argument}: {error.strerror}") from None

    def read(self, argument: str | Path, limit: int = -1) -> bytes:
        """The content of a file as typed, of standard input for `-`; up to `limit` bytes of it."""
        if str(argument) == "-":
            return sys.stdin.buffer.read(limit)
        with self.opened(argument) as file:
            return file.read(limit)

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
            raise _no_file(self)
        return self.file

    @cached_property
    def backend(self) -> "Backend":
        """Raises NotFound where nothing was deployed yet."""
        return open_at(self, backend_location(self), create=self._create)

    @property
    def store(self) -> "Store":
        """The backend, for what is asked of the store itself: verify, gc. Raises Refused where it is an API."""
        from svcctl.backend.store import Store

        if isinstance(self.backend, Store):
            return self.backend
        raise works_on_stores(self, backend_location(self))

    def new_backend(self) -> "Backend":
        """For commands that may be a project's first: a store that does not exist is made."""
        self._create = True
        return self.backend

    @property
    def own_folder(self) -> Path:
        """What this machine keeps for the backend: in the store's folder, or in the user's where it is elsewhere."""
        from svcctl.cli import known

        location = backend_location(self)
        return location if isinstance(location, Path) else known.state(self.environ, location)

    @property
    def pending_folder(self) -> Path:
        return self.own_folder / "pending"

    @cached_property
    def progress(self) -> Progress:
        from svcctl.cli import progress

        made = progress.of(sys.stderr, json=self.json)
        self.at_end(made.done)  # also of work that fails, or that Ctrl-C ends: what is said next has a line of its own
        return made

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


def _no_file(context: Context, hint: str | None = None) -> NotFound:
    return NotFound(f"there is no services.toml in {context.folder} or above it", hint=hint, next="svcctl init")


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    """Known before the command line is understood: its errors are JSON too."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def backend_location(context: Context) -> str | Path:
    """A URL, or the folder of the store: --backend > SVCCTL_BACKEND > `backend use` > `backend` in services.toml >
    `.svcctl` beside it."""
    if typed := context.backend_option or context.environ.get("SVCCTL_BACKEND"):
        return located(context, typed)
    from svcctl.cli import known

    if context.file is None:
        raise _no_file(context, hint="--backend names a store, or an API, from anywhere")
    beside = context.file.parent
    if chosen := known.choice(beside):
        return beside / STORE if chosen == known.LOCAL else normal(chosen)
    said = context.project.backend
    return normal(said) if said and "://" in said else beside / (said or STORE)


def located(context: Context, typed: str) -> str | Path:
    """What `--backend` says: a URL, a name that `backend add` gave to one, or a folder."""
    if "://" in typed:
        return normal(typed)
    if "/" not in typed and not typed.startswith("."):
        from svcctl.cli import known

        if typed == known.LOCAL:
            return context.required_file.parent / STORE
        if (url := known.names(context.environ).get(typed)) and not context.path(typed).exists():
            return normal(url)
    return context.path(typed)


def normal(url: str) -> str:
    """That of an API in its one form; that of a database as it is."""
    from svcctl.backend import address

    return url if url.startswith(("postgresql://", "postgres://")) else address.normal(url)


def is_api(location: str | Path) -> bool:
    return isinstance(location, str) and location.startswith(("https://", "http://"))


def open_at(context: Context, location: str | Path, *, create: bool) -> "Backend":
    """Until the command ends."""
    backend = opened(context, location, create=create)
    context.at_end(backend.close)
    if isinstance(location, Path) and getattr(backend, "made", False):
        _warn_of_network(context, location)
    return backend


def opened(context: Context, location: str | Path, *, create: bool) -> "Backend":
    """Its closing is the caller's business."""
    if is_api(location):
        return open_api(context, str(location))
    return _store_at(context, location, create=create)


def open_api(context: Context, url: str, *, seen: "Seen | None" = None, patience: "Patience | None" = None) -> "Remote":
    """With the token that is kept for it."""
    from svcctl.backend.remote import HASTY, PATIENT, Remote

    patience = patience or (HASTY if context.hasty else PATIENT)
    return Remote(url, kept_token(context, url), patience=patience, seen=seen)


def kept_token(context: Context, url: str) -> "SecretValue | None":
    from svcctl import credentials
    from svcctl.cli import known

    context.token_from = credentials.VARIABLE if context.environ.get(credentials.VARIABLE) else None
    return credentials.token(url, context.environ, known.configuration(context.environ))


def open_again(context: Context) -> "Store":
    """The same store, as another process would; its closing is the caller's business."""
    location = backend_location(context)
    if is_api(location):
        raise works_on_stores(context, location)
    return _store_at(context, location, create=False)


def works_on_stores(context: Context, location: str | Path) -> Refused:
    from svcctl.cli.catalogue import COMMANDS

    words = context.arguments
    named = (*(" ".join(pair) for pair in pairwise(words)), *words)
    command = next((each for each in named if each in COMMANDS), "this")
    hint = "type it where `svcctl api` runs, with --backend and its store"
    if command == "verify":
        hint += f"; or copy all of it: svcctl backend copy {location} FOLDER, then svcctl verify --backend FOLDER"
    return Refused(f"{command} works on a store itself, and {location} is an API", hint=hint)


def _store_at(context: Context, location: str | Path, *, create: bool) -> "Store":
    from svcctl.backend.store import Store

    return Store.open(location, actor=lambda: context.actor, environ=context.environ, create=create)


def _warn_of_network(context: Context, location: Path) -> None:
    from svcctl.backend.store.filesystem import network

    if kind := network(location):
        context.tell(Note(f"{location} lies on {kind}: a store is safe on a local disk alone; see --backend"))

"""What `svcctl api` is made of: a store, opened for each thread; the application; a server that ends in good order."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import uvicorn

from svcctl import ages, tokens, wire
from svcctl.api import Api
from svcctl.api.door import LOOPBACK
from svcctl.backend.base import Authority
from svcctl.cli.apiconnections import LIMITS, Limits, protocol
from svcctl.cli.context import Context, open_again
from svcctl.cli.output import Note
from svcctl.commands import CreateToken, new_id
from svcctl.dataplane import serving
from svcctl.errors import Refused
from svcctl.model import Grant
from svcctl.text import clean

FIRST = "admin"
_MOST = 10_000
_YOUNG = 10_000
"""New objects, about those of ten requests, after which garbage is looked for among them."""


def application(context: Context, host: str, allowed: Sequence[str], threads: int) -> Api:
    def connect() -> Authority:
        return open_again(context)

    def log(line: str) -> None:
        sys.stderr.write(line + "\n")

    def now() -> str:
        return ages.timestamp(datetime.now(UTC))

    _of_server(lambda text: log(wire.line({"at": now(), "error": text})))
    hosts = (*LOOPBACK, host if ":" not in host else f"[{host}]", *allowed)
    return Api(connect, hosts=hosts, log=log, now=now, threads=threads)


def _of_server(log: Callable[[str], None]) -> None:
    """What uvicorn has to say, as a line of the log."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: log(clean(record.getMessage()))  # type: ignore[method-assign]
    logging.getLogger("uvicorn.error").addHandler(handler)


def first_token(context: Context, file: Path | None) -> None:
    """Of a store that never had one: an admin's, told once."""
    store = context.store
    if store.tokens():
        return
    secret = tokens.new()
    command = CreateToken(id=new_id(), grant=Grant(name=FIRST, role="admin"), hash=tokens.hash_of(secret))
    descriptor = _new_file(file) if file else None
    try:
        store.apply(command)
    except BaseException as error:
        if file and descriptor is not None:
            os.close(descriptor)
            file.unlink()
        if isinstance(error, Refused) and store.tokens():  # another replica was first
            return
        raise
    text = secret.reveal().decode()
    if descriptor is None:
        sys.stderr.write(f"the first token, an admin's, shown this once:\n{text}\n")
    else:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text + "\n")
        context.tell(Note(f"the first token, an admin's, is in {file}"))


def _new_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}", hint="the first token is written into a new file") from error


def limits() -> Limits:
    """As many connections as this process may have open files, up to what a team will ever need."""
    return Limits(connections=min(serving.most_connections(), _MOST))


class Server(uvicorn.Server):
    """SIGTERM and Ctrl-C let what runs end; who waits for a change is answered at once. A second one ends it now."""

    def __init__(
        self, api: Api, announce: Callable[[], None], *, proxies: Sequence[str], drain: float, limits: Limits = LIMITS
    ) -> None:
        """`announce` is called once requests are answered, and signals end it in good order."""
        super().__init__(
            uvicorn.Config(
                api,
                http=protocol(limits),  # type: ignore[arg-type]  # it is called, as a class would be
                loop="uvloop",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=list(proxies) or None,
                timeout_keep_alive=limits.idle,  # type: ignore[arg-type]  # seconds, whole or not
                timeout_graceful_shutdown=int(drain),
            )
        )
        self._api = api
        self._announce = announce

    def answer(self, sock: socket.socket) -> None:
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self.serve(sockets=[sock]))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise them once more at the end: then it would not be 0."""
        wanted = (signal.SIGTERM, signal.SIGINT)
        before = [(each, signal.signal(each, self._told)) for each in wanted]
        try:
            yield
        finally:
            for each, handler in before:
                signal.signal(each, handler)

    def _told(self, _signal: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there by now stays: looking through it for garbage, again and again, costs each request a twentieth.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._api.stop()
        await super().shutdown(sockets)

"""A request answered in this process, by stored versions: what `svcctl call` does."""

import asyncio
import base64
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from svcctl.backend.base import Backend
from svcctl.cli import running, target
from svcctl.cli.context import Context, backend_location
from svcctl.dataplane.assembling import NotLive, assemble
from svcctl.dataplane.cache import Cache
from svcctl.dataplane.landscape import Landscape
from svcctl.dataplane.lifespan import Lifespans
from svcctl.errors import Refused, UsageError
from svcctl.model import EnvironmentId, Model
from svcctl.reference import Reference
from svcctl.rules.state import Place
from svcctl.runtime.assembly import Assembly
from svcctl.runtime.invocation import Outer, current
from svcctl.runtime.limits import LimitExceeded
from svcctl.runtime.running import LoadFailed, Running
from svcctl.runtime.tracebacks import Explained, readable
from svcctl.runtime.workers import Request
from svcctl.sealing import SecretValue
from svcctl.text import clean

TIMEOUT = 30.0


class Asked(Model):
    path: str
    method: str
    body: bytes | None
    headers: tuple[tuple[str, str], ...]


class Answer(Model):
    ref: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def document(self) -> dict[str, Any]:
        """The body as text; one that is none as base64."""
        try:
            body = {"body": self.body.decode()}
        except UnicodeDecodeError:
            body = {"base64": base64.b64encode(self.body).decode()}
        return {"ref": self.ref, "status": self.status, "headers": self.headers, **body}


def request(context: Context, path: str, method: str | None, data: str | None, headers: Sequence[str] | None) -> Asked:
    if not path.startswith("/"):
        raise UsageError(f"{path!r} is no path", hint="it begins with /")
    found = []
    for text in headers or ():
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"-H {text!r}: must be NAME: VALUE")
        found.append((name.strip(), value.strip()))
    body = None if data is None else context.read(data[1:]) if data.startswith("@") else data.encode()
    return Asked(path=path, method=method or ("GET" if body is None else "POST"), body=body, headers=tuple(found))


def answer(
    context: Context, ref: str, service: Sequence[str] | None, overriding: Sequence[str], asked: Asked
) -> Answer:
    backend = context.backend
    landscape = Landscape()
    landscape.take(backend.follow(0))
    place = _place(backend, landscape, target.one(context, ref, service))
    others = [_place(backend, landscape, target.one(context, each)) for each in overriding]
    view = landscape.choosing([place, *others], others)
    cache = Cache(running.cache_folder(backend_location(context)))

    def reveal(id: EnvironmentId, secrets: Mapping[str, str]) -> Mapping[str, SecretValue]:
        return backend.reveal(id, secrets)

    try:
        assembly = assemble(view, place, lambda code: cache.files(code, backend), reveal)
    except NotLive as error:
        raise Refused(str(error), next=f"svcctl env show {place.ref}") from error
    _check_used(assembly, others)
    request = _sendable(f"http://{place.identity.hostname or 'localhost'}{asked.path}", asked)
    with redirect_stdout(sys.stderr):
        return asyncio.run(_answered(context, assembly, request))


def _sendable(url: str, asked: Asked) -> Request:
    """Raises UsageError: a method or a header that can't be is no fault of the service's."""
    try:
        return Request(url, method=asked.method, headers=list(asked.headers), body=asked.body)
    except TypeError as error:
        raise UsageError(str(error)) from error


def _place(backend: Backend, landscape: Landscape, wanted: Reference) -> Place:
    """An environment as it was at a version."""
    version = backend.version(wanted)
    known = landscape.place(version.service, version.environment)
    if known is None:
        raise Refused(f"{version.ref} is not there any more")
    return Place(identity=known.identity, head=version, settings=backend.settings(version.settings.digest))


def _check_used(assembly: Assembly, others: Sequence[Place]) -> None:
    for place in others:
        if place.ref not in {part.place for part in assembly.parts}:
            reached = ", ".join(sorted(part.place for part in assembly.parts[1:])) or "nothing"
            raise UsageError(
                f"--with {place.ref}: {assembly.place} does not reach {place.identity.service}",
                hint=f"it reaches {reached}",
            )


async def _answered(context: Context, assembly: Assembly, request: Request) -> Answer:
    loaded = _loaded(context, assembly)
    lifespans = Lifespans(loaded)
    try:
        await _enter(lifespans)
        async with asyncio.timeout(TIMEOUT):
            return await _called(loaded, request)
    except TimeoutError as error:
        raise Refused(f"{assembly.front.ref} did not answer within {TIMEOUT:g} s") from error
    except LimitExceeded as error:
        raise Refused(f"{assembly.front.ref}: {error}") from error
    finally:
        await lifespans.leave()
        loaded.close()


def _loaded(context: Context, assembly: Assembly) -> Running:
    try:
        return Running(assembly, running.reach(context).keyvalues)
    except LoadFailed as error:
        raise _failed(str(error), error.__cause__ or error, assembly) from error


async def _enter(lifespans: Lifespans) -> None:
    if failed := await lifespans.enter():
        raise Refused(failed)


def _failed(what: str, error: BaseException, assembly: Assembly) -> Refused:
    folders = {part.folder: part.ref for part in assembly.parts}
    return Refused(
        f"{what}: {readable(error, folders)}" if isinstance(error, Explained) else f"{what}\n{readable(error, folders)}"
    )


async def _called(loaded: Running, request: Request) -> Answer:
    outer = Outer("call")
    invocation = loaded.invocation(outer)
    token = current.set(invocation)
    try:
        response = await loaded.front.fetch(request, invocation)
        body = b"" if request.method == "HEAD" else bytes(await response.bytes())
        if outer.background:
            await asyncio.wait(outer.background)
    except LimitExceeded:
        raise
    except Exception as error:
        raise _failed(f"{loaded.assembly.front.ref} raised an exception", error, loaded.assembly) from error
    finally:
        current.reset(token)
    return Answer(
        ref=loaded.assembly.front.ref, status=response.status, headers=tuple(response.headers.items()), body=body
    )


def write_body(context: Context, answer: Answer) -> None:
    """As it came; a terminal is spared control characters."""
    if sys.stdout.isatty():
        text = answer.body.decode("utf-8", "replace")
        sys.stdout.write("".join(c if c in "\n\t" else clean(c) for c in text))
        if not text.endswith("\n"):
            sys.stdout.write("\n")
    else:
        sys.stdout.buffer.write(answer.body)
    sys.stdout.flush()
    context.output.printed = True

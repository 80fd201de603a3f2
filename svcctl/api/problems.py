"""Errors as answers: the problem document, with the status of the one table (`svcctl.errors`)."""

import traceback
from http import HTTPStatus
from pathlib import Path

import msgspec

from svcctl import __version__, wire
from svcctl.errors import BUG, Conflict, Forbidden, NotFound, SvcctlError, Unreachable, UsageError
from svcctl.text import clean

_FRAMES = 12
_FOREIGN: dict[int, type[SvcctlError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: Unreachable,
    503: Unreachable,
}


def problem(error: SvcctlError) -> bytes:
    return msgspec.json.encode(wire.problem(error))


def way_to(error: BaseException) -> str:
    """Where a bug is, for the log: lines of code, and nothing that anybody sent or stored."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return " < ".join(f"{Path(each.filename).name}:{each.lineno} {each.name}" for each in reversed(frames))


def bug(request: str) -> bytes:
    """Nothing of what went wrong: the log has it, under the request's id."""
    code, _ = BUG
    message = "this is a bug in svcctl's API"
    return msgspec.json.encode(
        {"error": {"code": code, "message": message, "hint": f"its log says more of request {request}", "next": None}}
    )


def away(request: str) -> SvcctlError:
    """What is told of the store behind the API: where it is, and what it said, is for the log."""
    return Unreachable(
        "the store behind this API can't be reached, or is busy",
        hint=f"nothing is half done; try again. The API's log says more of request {request}",
    )


def apart(theirs: str | None) -> str | None:
    """What to know where something is not understood and the other side is of version `theirs`."""
    if theirs in (None, __version__):
        return None
    return f"this API is svcctl {__version__}, the request is of {clean(theirs[:40])}: bring the older one up to date"


def of_status(status: int) -> SvcctlError:
    """What the framework refused before any route was asked."""
    kind = _FOREIGN.get(status, UsageError)
    return kind(
        f"{HTTPStatus(status).phrase.lower()}: there is no such route, or not for this method",
        hint="is the URL of the API right? Its routes begin with /v1/",
    )

"""From what a route gives, or from what went wrong, to the answer that is sent."""

import hashlib
from typing import Any

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from svcctl.api.asking import Asked
from svcctl.api.parsing import Malformed
from svcctl.api.pool import Busy
from svcctl.api.problems import apart, away, bug, of_status, problem, way_to
from svcctl.api.route import Raw
from svcctl.backend.messages import VERSION_HEADER, Registered
from svcctl.errors import SvcctlError, Throttled, Unauthorized, Unreachable

FOREVER = "private, immutable, max-age=31536000"
_JSON = "application/json"


def answered(found: Any, request: Asked) -> Response[Any]:
    if isinstance(found, Raw):
        return _tagged(found.content, found.media_type, f'"{found.etag}"', FOREVER, request)
    if isinstance(found, Registered) and found.missing:
        return fresh(found, status=409)
    content = msgspec.json.encode(found)
    if request.method != "GET":
        return Response(content, media_type=_JSON)
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _tagged(content, _JSON, etag, "private, no-cache", request)


def _tagged(content: bytes, media_type: str, etag: str, cache: str, request: Asked) -> Response[Any]:
    headers = {"etag": etag, "cache-control": cache}
    if request.headers.get("if-none-match") == etag:
        return Response(None, status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def fresh(found: Any, status: int = 200) -> Response[Any]:
    """For now alone."""
    content = msgspec.json.encode(found)
    return Response(content, status_code=status, media_type=_JSON, headers={"cache-control": "no-store"})


def failed(request: Asked, error: Exception) -> Response[Any]:
    state = request.scope["state"]
    unknown = isinstance(error, HTTPException | Malformed)
    if isinstance(error, HTTPException):
        error = of_status(error.status_code) if error.status_code < 500 else error
    if isinstance(error, RecursionError):
        error = of_status(400)
    if not isinstance(error, SvcctlError):
        state["error"], state["detail"] = f"bug: {type(error).__name__}", way_to(error)
        return Response(bug(state["request"]), status_code=500, media_type=_JSON)
    state["error"] = error.code
    if unknown:
        error.hint = apart(request.headers.get(VERSION_HEADER)) or error.hint
    if isinstance(error, Unreachable) and not isinstance(error, Busy | Throttled):
        state["detail"] = error.message
        error = away(state["request"])
    headers = {"connection": "close"} if request.method in {"POST", "PUT"} else {}
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Throttled | Unreachable):
        headers["retry-after"] = "6" if isinstance(error, Throttled) else "1"
    return Response(problem(error), status_code=error.http_status, media_type=_JSON, headers=headers)

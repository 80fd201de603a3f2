"""Errors shown to whoever develops: a page for a browser, text for everything else."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from typing import Any

from svcctl.runtime import capture

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[..., Awaitable[None]]
"""An application that may be given a fourth argument: see `Respond` in `answering`."""

_STYLE = (
    "body{font:16px/1.5 system-ui;margin:3rem auto;max-width:60rem;padding:0 1rem;color:#222}"
    "h1{font-size:1.3rem;color:#b00020;overflow-wrap:anywhere}pre{background:#f6f6f6;padding:1rem;overflow:auto}"
    "@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}pre{background:#262626}}"
)


def explaining(ref: str, message: str, text: str) -> App:
    """What answers in the place of code that does not start."""

    async def app(scope: Scope, _receive: Receive, send: Send, _respond: object = None) -> None:
        began = time.perf_counter()
        await explain(scope, send, message, f"{ref} is started again when a file changes", text)
        capture.log_request(scope, 500, time.perf_counter() - began, "-")

    return app


async def explain(scope: Scope, send: Send, title: str, where: str, text: str) -> None:
    if any(name == b"accept" and b"text/html" in value for name, value in scope["headers"]):
        content_type, body = b"text/html; charset=utf-8", _page(title, where, text)
    else:
        content_type, body = b"text/plain; charset=utf-8", f"{title}\n{where}\n\n{text}\n"
    content = body.encode("utf-8", "replace")
    headers = [(b"content-type", content_type), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


def _page(title: str, where: str, text: str) -> str:
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><p>{escape(where)}</p><pre>{escape(text)}</pre>"
    )

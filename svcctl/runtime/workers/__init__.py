"""What handler code imports as `workers`: Cloudflare's Python Workers API, on CPython and asyncio.

docs/handlers.md says what is the same, what differs and what is absent.
"""

from importlib import import_module
from typing import Any

from svcctl.runtime.threads import run_sync
from svcctl.runtime.workers.blob import Blob, BlobEnding, BlobValue, File
from svcctl.runtime.workers.entrypoint import (
    Context,
    DurableObject,
    WorkerEntrypoint,
    WorkflowEntrypoint,
    env,
    handler,
    import_from_javascript,
    patch_env,
    python_from_rpc,
    python_to_rpc,
    wait_until,
)
from svcctl.runtime.workers.forms import FormData, FormDataValue
from svcctl.runtime.workers.headers import Headers
from svcctl.runtime.workers.outbound import fetch
from svcctl.runtime.workers.request import Request
from svcctl.runtime.workers.response import FetchResponse, HttpStatusError, Response
from svcctl.runtime.workers.stream import BodyUsedError, ReadableStream

waitUntil = wait_until  # noqa: N816  # the platform's name

Body = JSBody = FetchKwargs = RequestInitCfProperties = Any
"""Names for annotations."""

__all__ = [
    "Blob",
    "BlobEnding",
    "BlobValue",
    "Body",
    "BodyUsedError",
    "Context",
    "DurableObject",
    "FetchKwargs",
    "FetchResponse",
    "File",
    "FormData",
    "FormDataValue",
    "Headers",
    "HttpStatusError",
    "JSBody",
    "ReadableStream",
    "Request",
    "RequestInitCfProperties",
    "Response",
    "WorkerEntrypoint",
    "WorkflowEntrypoint",
    "env",
    "fetch",
    "handler",
    "import_from_javascript",
    "patch_env",
    "python_from_rpc",
    "python_to_rpc",
    "run_sync",
    "waitUntil",
    "wait_until",
]


def __getattr__(name: str) -> Any:
    """`from workers import asgi`: loaded when asked for."""
    if name in ("asgi", "wsgi"):
        return import_module(f"svcctl.runtime.{name}")
    raise AttributeError(f"module 'workers' has no attribute {name!r}")

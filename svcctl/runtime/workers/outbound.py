"""`fetch`: requests to the world outside."""

from typing import Any

from svcctl.runtime.workers.response import Response


async def fetch(resource: Any, **options: Any) -> Response:
    raise NotImplementedError

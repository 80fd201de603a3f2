"""Lifespans of ASGI applications, in every part of a deployment, run by uvicorn's own code."""

import logging

from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.running import Running

# uvicorn's own is silenced for requests; and that it waits, or has waited, is nothing a service would log.
_log = logging.getLogger("svcctl.lifespan")
_log.setLevel(logging.WARNING)


class Lifespans:
    def __init__(self, running: Running) -> None:
        self._running = running
        self._entered: list[LifespanOn] = []

    async def enter(self) -> str | None:
        """What failed, or None. Applications without a lifespan are left in peace."""
        for part in self._running.assembly.parts:
            handler = self._running.handlers[part.place]
            if handler.form != "asgi":
                continue
            current.set(Invocation(Outer("lifespan"), part, handler.env))
            lifespan = LifespanOn(Config(app=handler.subject, lifespan="auto", log_config=None))
            lifespan.logger = _log
            await lifespan.startup()
            if lifespan.should_exit:
                return f"{part.ref} does not start: its lifespan failed"
            handler.state = lifespan.state
            self._entered.append(lifespan)
        return None

    async def leave(self) -> None:
        """Newest first, whatever fails: uvicorn logs it."""
        while self._entered:
            await self._entered.pop().shutdown()

"""An assembly brought to life: every part loaded, every name of every `env` in place."""

from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

from svcctl.keyvalues import KeyValues
from svcctl.runtime.assembly import Assembly, Part, Reach, ToNamespace, ToNothing, ToService, ToVersion
from svcctl.runtime.env import Env, Nothing, VersionMetadata
from svcctl.runtime.handlers import Handler, NoHandler
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.kv import KVNamespace
from svcctl.runtime.loader import Loader
from svcctl.runtime.services import ServiceBinding


class LoadFailed(Exception):
    """A part that does not start; its cause is what its code raised."""

    def __init__(self, part: Part, message: str) -> None:
        super().__init__(f"{part.ref} does not start: {message}")
        self.part = part


class Running:
    """The parts of one assembly in this process. Its making imports their code; raises LoadFailed."""

    def __init__(self, assembly: Assembly, open_keyvalues: Callable[[], KeyValues]) -> None:
        self.assembly = assembly
        self.parts = {part.place: part for part in assembly.parts}
        self._keyvalues = _Once(open_keyvalues)
        self._loader = Loader(assembly.parts)
        self._envs = {part.place: self._env(part) for part in assembly.parts}
        self.handlers: dict[str, Handler] = {}
        for part in assembly.parts:
            self.handlers[part.place] = self._load(part)

    @property
    def front(self) -> Handler:
        return self.handlers[self.assembly.place]

    def invocation(self, outer: Outer) -> Invocation:
        """Of the front part, for a request from outside."""
        return Invocation(outer, self.assembly.front, self.front.env)

    def close(self) -> None:
        """Lets go of the modules, for a process that goes on."""
        self._loader.close()
        self._keyvalues.close()

    def _load(self, part: Part) -> Handler:
        env = self._envs[part.place]
        token = current.set(Invocation(Outer("load"), part, env))
        try:
            module = self._loader.load(part.place)
            return Handler(module, part.main.partition(":")[2] or None, env)
        except NoHandler as error:
            raise LoadFailed(part, str(error)) from error
        except (Exception, SystemExit) as error:
            raise LoadFailed(part, f"{type(error).__name__}: {error}") from error
        finally:
            current.reset(token)

    def _env(self, part: Part) -> Env:
        names: dict[str, Any] = {**part.vars, **part.secrets.values}
        names |= {name: self._reached(name, reach) for name, reach in part.reaches.items()}
        return Env(part.place, names)

    def _reached(self, name: str, reach: Reach) -> Any:
        match reach:
            case ToService(place=place, entrypoint=entrypoint):
                return ServiceBinding(name, self.parts[place], entrypoint, partial(self._handler, place))
            case ToNamespace(namespace=namespace):
                return KVNamespace(self._keyvalues, namespace)
            case ToVersion(id=id, tag=tag, timestamp=timestamp):
                return VersionMetadata(id, tag, timestamp)
            case ToNothing(why=why):
                return Nothing(name, why)
            case _:
                assert_never(reach)

    def _handler(self, place: str) -> Handler:
        return self.handlers[place]


class _Once:
    """KeyValues opened at the first use: a connection must not be carried through a fork, and few services need one."""

    def __init__(self, open: Callable[[], KeyValues]) -> None:
        self._open = open
        self._opened: KeyValues | None = None

    def __getattr__(self, name: str) -> Any:
        if self._opened is None:
            self._opened = self._open()
        return getattr(self._opened, name)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

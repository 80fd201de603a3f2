"""`env`: what a handler is given by its environment, one attribute a name. Made once per part."""

from collections.abc import Iterator, Mapping
from typing import Any

from svcctl.names import did_you_mean


class Env:
    """Vars, secrets and bindings as attributes; `env["NAME"]` works too. Shows names, never values."""

    def __init__(self, place: str, names: Mapping[str, Any]) -> None:
        self.__dict__.update(names)
        self.__dict__["__place__"] = place

    def __getattr__(self, name: str) -> Any:
        """Asked only for names that are not there."""
        hint = did_you_mean(name, self)
        place = self.__dict__.get("__place__")
        raise AttributeError(f"the env of {place} has no {name}" + (f"; {hint}" if hint else ""), name=name, obj=self)

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self.__dict__[name]

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__ and name != "__place__"

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.__dict__ if name != "__place__")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"env is shared by all requests and can't be changed: {name}")

    def __repr__(self) -> str:
        return f"<env of {self.__dict__['__place__']}: {', '.join(self) or 'empty'}>"


class VersionMetadata:
    """What `{ version_metadata = true }` gives."""

    __slots__ = ("id", "tag", "timestamp")

    def __init__(self, id: str, tag: str, timestamp: str) -> None:
        self.id = id
        """`shop/production@12`"""
        self.tag = tag
        self.timestamp = timestamp
        """UTC, when the version was made."""

    def __repr__(self) -> str:
        return f"<version {self.id}>"


class Nothing:
    """A binding that leads nowhere. It is there, so that a handler can start; using it raises."""

    def __init__(self, name: str, why: str) -> None:
        self.__dict__["_said"] = f"binding {name}: {why}"

    def __getattr__(self, name: str) -> Any:
        from svcctl.runtime.limits import Unavailable

        raise Unavailable(self.__dict__["_said"])

    def __repr__(self) -> str:
        return f"<{self.__dict__['_said']}>"

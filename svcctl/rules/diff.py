"""What turns one side into the other: settings by name, routes, files by path. Bytes are `patch`'s business."""

from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

import msgspec

from svcctl.model import (
    Binding,
    Diff,
    FileDifference,
    How,
    Manifest,
    Model,
    RouteDifference,
    SettingDifference,
    Settings,
    StartDifference,
    Value,
)

T = TypeVar("T")
_START: tuple[Literal["main", "runtime", "python", "platform"], ...] = ("main", "runtime", "python", "platform")


class Side(Model):
    """A version in its environment, or what a working tree would become there."""

    ref: str
    settings: Settings = Settings()
    manifest: Manifest | None = None
    """None where there is no code."""
    routes: tuple[str, ...] = ()
    protected: bool = False


def compare(a: Side, b: Side) -> Diff:
    return Diff(
        a=a.ref,
        b=b.ref,
        settings=tuple(settings(a.settings, b.settings)),
        routes=tuple(
            RouteDifference(route=route, change=how)
            for route, how in _changes(dict.fromkeys(a.routes), dict.fromkeys(b.routes))
        ),
        protected=b.protected if a.protected != b.protected else None,
        start=tuple(_start(a.manifest, b.manifest)),
        files=tuple(_files(a.manifest, b.manifest)),
    )


def settings(a: Settings, b: Settings) -> Iterator[SettingDifference]:
    """Effective values. Of secrets their fingerprints are compared, and neither is told."""
    for name, how in _changes(a.vars, b.vars):
        yield SettingDifference(name=name, kind="var", change=how, old=a.vars.get(name), new=b.vars.get(name))
    for name, how in _changes(a.secrets, b.secrets):
        yield SettingDifference(name=name, kind="secret", change=how)
    for name, how in _changes(a.bindings, b.bindings):
        old, new = _table(a.bindings.get(name)), _table(b.bindings.get(name))
        yield SettingDifference(name=name, kind="binding", change=how, old=old, new=new)


def _table(binding: Binding | None) -> Value | None:
    return None if binding is None else msgspec.to_builtins(binding)


def _start(a: Manifest | None, b: Manifest | None) -> Iterator[StartDifference]:
    """Of two that both have code: for one alone, its files say that it came or went."""
    if a is None or b is None:
        return
    for name in _START:
        old, new = getattr(a, name), getattr(b, name)
        if old != new:
            yield StartDifference(name=name, old=old, new=new)


def _files(a: Manifest | None, b: Manifest | None) -> Iterator[FileDifference]:
    old = {file.path: file for file in a.files} if a else {}
    new = {file.path: file for file in b.files} if b else {}
    for path, how in _changes(old, new):
        yield FileDifference(path=path, change=how, old=old.get(path), new=new.get(path))


def _changes(old: Mapping[str, T], new: Mapping[str, T]) -> Iterator[tuple[str, How]]:
    """By name. `1`, `1.0` and `true` are three values, wherever they stand: what differs in JSON differs here."""
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield name, "added"
        elif name not in new:
            yield name, "removed"
        elif old[name] != new[name] or _written(old[name]) != _written(new[name]):
            yield name, "changed"


def _written(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")

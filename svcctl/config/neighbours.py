"""Service bindings: one may reach another project's service, so only a name that looks like a slip is wrong."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from svcctl.config.positions import Path
from svcctl.config.table import Table
from svcctl.model import Binding, ServiceFile


class _Foreign(NamedTuple):
    service: str
    path: Path


def check(top: Table, services: dict[str, ServiceFile]) -> None:
    foreign = list(_foreign(services))
    near = _index(services) if foreign else {}
    for service, path in foreign:
        if meant := _slip(service, near):
            message = f"there is no service {service} here; did you mean {meant}?"
            top.wrong(f"{message} (To bind another project's, say its environment)", *path)


def _foreign(services: dict[str, ServiceFile]) -> Iterator[_Foreign]:
    for name, service in services.items():
        base = service.base.layer.bindings
        yield from _of_table(base, ("services", name), services)
        for environment, block in service.blocks.items():
            own = {key: bound for key, bound in block.layer.bindings.items() if bound is not base.get(key)}
            yield from _of_table(own, ("services", name, "environments", environment), services)


def _of_table(bindings: dict[str, Binding], table: Path, services: dict[str, ServiceFile]) -> Iterator[_Foreign]:
    for name, bound in bindings.items():
        if bound.service and not bound.environment and bound.service not in services:
            yield _Foreign(bound.service, (*table, "bindings", name, "service"))


def _index(services: Iterable[str]) -> dict[str, list[str]]:
    """By every name that is left when one letter falls out: two names one letter apart have one of these in common."""
    index: dict[str, list[str]] = {}
    for name in services:
        for shorter in _shorter(name):
            index.setdefault(shorter, []).append(name)
    return index


def _shorter(name: str) -> set[str]:
    return {name, *(name[:at] + name[at + 1 :] for at in range(len(name)))}


def _slip(service: str, near: dict[str, list[str]]) -> str | None:
    candidates = (name for shorter in sorted(_shorter(service)) for name in near.get(shorter, ()))
    return next((name for name in candidates if _one_letter_apart(service, name)), None)


def _one_letter_apart(a: str, b: str) -> bool:
    """One letter missing, wrong, or swapped with the next. Short names, and `api-v1` and `api-v2`, are two names."""
    same = len(posixpath.commonprefix((a, b)))
    x, y = a[same:], b[same:]
    if min(len(a), len(b)) < 4 or x[:1].isdigit() or y[:1].isdigit():
        return False
    return x[1:] == y or x == y[1:] or x[1:] == y[1:] or (x[1::-1], x[2:]) == (y[:2], y[2:])

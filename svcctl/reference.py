"""References: `[service/]environment[@version]`."""

import re

import msgspec

from svcctl import names
from svcctl.errors import UsageError


class Number(msgspec.Struct, frozen=True):
    """`@12`"""

    number: int


class Back(msgspec.Struct, frozen=True):
    """`@-1`: so many versions before the head."""

    steps: int


class Tag(msgspec.Struct, frozen=True):
    """`@v1.4.0`"""

    name: str


class AsOf(msgspec.Struct, frozen=True):
    """`@c41`: as it was after change 41."""

    change: int


At = Number | Back | Tag | AsOf


class Reference(msgspec.Struct, frozen=True):
    environment: str
    service: str | None = None
    at: At | None = None

    def __str__(self) -> str:
        return write(self.environment, self.service, self.at)


_DIGITS = re.compile(r"[0-9]{1,15}")


def parse_at(text: str) -> At:
    """What stands after the `@`, or in `--to`."""
    if _DIGITS.fullmatch(text) and int(text) > 0:
        return Number(int(text))
    if text.startswith("-") and _DIGITS.fullmatch(text[1:]) and int(text[1:]) > 0:
        return Back(int(text[1:]))
    if text.startswith("c") and _DIGITS.fullmatch(text[1:]):
        return AsOf(int(text[1:]))
    if wrong := names.check_tag(text):
        raise UsageError(
            f"{text!r} is no version: a tag {wrong}",
            hint="a version is a number (12), a tag (v1.4.0), -1 (the one before the head) or c41 (after change 41)",
        )
    return Tag(text)


def parse(text: str) -> Reference:
    place, at_sign, version = text.partition("@")
    service, slash, environment = place.rpartition("/")
    for part in (service, environment) if slash else (environment,):
        if wrong := names.check_name(part):
            raise UsageError(
                f"{text!r} is no reference: {part!r} {wrong}",
                hint="a reference is [service/]environment[@version], such as production or shop/staging@12",
            )
    return Reference(environment, service if slash else None, parse_at(version) if at_sign else None)


def write_at(at: At) -> str:
    match at:
        case Number(number):
            return str(number)
        case Back(steps):
            return f"-{steps}"
        case Tag(name):
            return name
        case AsOf(change):
            return f"c{change}"


def write(environment: str, service: str | None = None, at: At | None = None) -> str:
    place = f"{service}/{environment}" if service else environment
    return f"{place}@{write_at(at)}" if at else place

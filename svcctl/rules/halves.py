"""The two halves of a version, and how a new one is laid on the one before (`rollback` takes them off again)."""

from msgspec.structs import replace

from svcctl import digest, wire
from svcctl.digest import Digest
from svcctl.model import Code, Half, Settings
from svcctl.rules.state import Place


def settings_digest(settings: Settings) -> Digest:
    return digest.of("settings", wire.canonical(settings))


def same_but_secrets(one: Settings, other: Settings) -> bool:
    """Compared as stored: to Python, `true` equals 1."""
    return settings_digest(without_secrets(one)) == settings_digest(without_secrets(other))


def without_secrets(settings: Settings) -> Settings:
    return replace(settings, cli=replace(settings.cli, secrets={}))


def lay_code(place: Place, code: Code | None, number: int) -> Code | None:
    """The code half of version `number`: the head's where that runs the same."""
    before = place.head.code if place.head else None
    if code is None or code.same(before):
        return before
    return replace(code, since=number, under=place.head.number if place.head and before else None)


def lay_settings(place: Place, settings: Settings, number: int) -> Half:
    """The settings half of version `number`. Secrets are no step: a version that changed only secrets lays nothing."""
    if place.head and settings is place.settings:
        return place.head.settings
    name = settings_digest(settings)
    if place.head is None or place.settings is None:
        return Half(digest=name, since=number)
    before = place.head.settings
    if name == before.digest or same_but_secrets(settings, place.settings):
        return replace(before, digest=name)
    return Half(digest=name, since=number, under=place.head.number)

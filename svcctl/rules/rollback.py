"""Roll back: take off the newest release still in force, or go back to a named version.

Each half of an environment (code, settings) is a pile. Whatever lays a new half lays it on the one before: `since` is
the version that laid a half, `under` the version whose half lies beneath. Taking a half off makes it the half of
`under`, with *that one's* `since` and `under`; so the next roll back goes one step further, and what was rolled back
never returns by itself. The halves that one change laid, in all services, come off together.

Secrets are no part of a pile: their values stay current unless `--restore-secrets`, for a rotated key must not come
back.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from svcctl import ages, digest, reference
from svcctl.commands import RollBack
from svcctl.errors import Damage, NotFound, Refused, UsageError
from svcctl.model import Code, Half, Model, Restores, Settings, Version
from svcctl.names import PRODUCTION
from svcctl.rules import replay
from svcctl.rules.draft import Draft
from svcctl.rules.halves import same_but_secrets, settings_digest
from svcctl.rules.reading import absent, check_one_service, version_at
from svcctl.rules.replay import Laid, Top
from svcctl.rules.settings import bindings_of, describe, refuse_unless_forced
from svcctl.rules.state import Consent, Place, Plan

Side = Literal["code", "settings"]


class _Back(Model):
    """One half that comes back: as it stands in version `number`, with the `since` and `under` it will have."""

    number: int
    since: int
    under: int | None


class _Move(Model):
    place: Place
    code: _Back | None = None
    settings: _Back | None = None


def roll_back(draft: Draft, command: RollBack) -> Plan:
    if command.code_only and command.settings_only:
        raise UsageError("--code-only and --settings-only exclude each other")
    places = _places(draft, command)
    sides = _sides(command)
    moves = _newest(draft, places, sides) if command.to is None else _named(draft, command, places, sides)
    problems: list[str] = []
    for move in moves:
        problems += _lay(draft, command, move)
        _say_what_stays(draft, move, sides)
    refuse_unless_forced(draft, problems, hint="--force rolls back all the same")
    guarded = command.environment == PRODUCTION or any(move.place.identity.protected for move in moves)
    consent = Consent(kind="yes", reason=f"roll back {command.environment}") if guarded or command.force else None
    return draft.plan(consent)


def _places(draft: Draft, command: RollBack) -> list[Place]:
    services = draft.selected()
    found = [place for place in draft.places(services, command.environment) if place.head]
    if not found:
        if any(draft.places(services, command.environment)):
            raise Refused(f"{command.environment} has no versions: nothing to roll back")
        raise NotFound(f"no environment {command.environment!r}", hint=draft.near(command.environment, services))
    return sorted(found, key=lambda place: place.identity.service)


def _sides(command: RollBack) -> tuple[Side, ...]:
    if command.code_only:
        return ("code",)
    return ("settings",) if command.settings_only else ("code", "settings")


# ---- without --to


def _newest(draft: Draft, places: list[Place], sides: tuple[Side, ...]) -> list[_Move]:
    """What comes off when the newest change in force does; refused where it was the first thing everywhere."""
    moves, stay = _take_off(draft, places, sides)
    for ref in stay:
        draft.note(f"{ref}: had no code before that change; it stays as it is")
    if moves:
        return moves
    raise Refused(
        f"nothing before: {', '.join(stay) or 'every environment named'} began with the newest change in force",
        hint="a roll back never crosses the creation of an environment",
        next=_narrower(draft, places, sides),
    )


def _take_off(draft: Draft, places: Iterable[Place], sides: tuple[Side, ...]) -> tuple[list[_Move], list[str]]:
    laid = {
        (place.identity.id, side): _change_of(draft, place, half.since)
        for place in places
        for side in sides
        if (half := _half(place, side))
    }
    newest = max(laid.values(), default=None)
    moves, stay = [], []
    for place in places:
        off = [side for side in sides if laid.get((place.identity.id, side)) == newest]
        if not off:
            continue
        backs = {side: _beneath(draft, place, side) for side in off}
        if not any(backs.values()) or ("code" in backs and backs["code"] is None):
            stay.append(place.ref)
        else:
            moves.append(_Move(place=place, code=backs.get("code"), settings=backs.get("settings")))
    return moves, stay


def _half(place: Place, side: Side) -> Code | Half | None:
    if place.head is None:
        return None
    return place.head.code if side == "code" else place.head.settings


def _change_of(draft: Draft, place: Place, number: int) -> int:
    if place.head and place.head.number == number:
        return place.head.change or 0
    change = draft.state.change_of(place.identity.id, number)
    if change is None:
        raise _gone(place, number)
    return change


def _stored(draft: Draft, place: Place, number: int) -> tuple[Version, Settings]:
    found = draft.state.version(place.identity.id, number)
    if found is None:
        raise _gone(place, number)
    return found


def _gone(place: Place, number: int) -> Damage:
    return Damage(f"{place.ref}@{number} is missing from the ledger", next="svcctl verify")


def _beneath(draft: Draft, place: Place, side: Side) -> _Back | None:
    half = _half(place, side)
    if half is None or half.under is None:
        return None
    version, _ = _stored(draft, place, half.under)
    under = version.code if side == "code" else version.settings
    return _Back(number=half.under, since=under.since, under=under.under) if under else None


def _narrower(draft: Draft, places: list[Place], sides: tuple[Side, ...]) -> str | None:
    """The command of smaller scope that still has something to take off."""
    for place in places if len(places) > 1 else ():
        if _take_off(draft, [place], sides)[0]:
            return f"svcctl rollback {place.identity.name} -s {place.identity.service}"
    for side in sides if len(sides) > 1 else ():
        if _take_off(draft, places, (side,))[0]:
            return f"svcctl rollback {places[0].identity.name} --{side}-only"
    return None


# ---- with --to


def _named(draft: Draft, command: RollBack, places: list[Place], sides: tuple[Side, ...]) -> list[_Move]:
    at = reference.parse_at(command.to or "")
    check_one_service(at, [place.identity.service for place in places])
    moves, found_any = [], False
    for place in places:
        found = version_at(draft.state, place, at)
        if found is None:
            if len(places) == 1:
                raise absent(place.identity, at)
            draft.note(f"{place.ref}: has nothing at {command.to}; it stays as it is")
            continue
        found_any = True
        version, settings = found
        if "code" in sides and version.code is None and place.head and place.head.code:
            draft.note(f"{place.ref}: had no code at {command.to}; it stays as it is")
            continue
        move = _Move(
            place=place,
            code=_back_to(draft, place, version, "code") if "code" in sides and _code_differs(place, version) else None,
            settings=_back_to(draft, place, version, "settings")
            if "settings" in sides and _settings_differ(command, place, settings)
            else None,
        )
        if move.code or move.settings:
            moves.append(move)
    if not found_any:
        raise NotFound(f"no environment {command.environment!r} here has {command.to!r}", next="svcctl history")
    return moves


def _code_differs(place: Place, version: Version) -> bool:
    return version.code is not None and not version.code.same(place.head.code if place.head else None)


def _settings_differ(command: RollBack, place: Place, settings: Settings) -> bool:
    now = place.settings or Settings()
    if command.restore_secrets:
        return settings_digest(settings) != settings_digest(now)
    return not same_but_secrets(settings, now)


def _back_to(draft: Draft, place: Place, version: Version, side: Side) -> _Back:
    """The named half: found in the present pile, what lies above comes off; else laid on the topmost half that is older
    than it."""
    wanted = version.code if side == "code" else version.settings
    assert wanted is not None  # _code_differs saw it  # noqa: S101
    half = _half(place, side)
    top = Top(number=place.identity.last, half=_laid(half)) if half else None
    back = replay.brought_back(_laid(wanted), top, lambda number: _standing_in(draft, place, side, number))
    return _Back(number=version.number, since=back.since, under=back.under)


def _standing_in(draft: Draft, place: Place, side: Side, number: int) -> Laid | None:
    version, _ = _stored(draft, place, number)
    half = version.code if side == "code" else version.settings
    return _laid(half) if half else None


def _laid(half: Code | Half) -> Laid:
    return Laid(since=half.since, under=half.under)


# ---- the new version


def _lay(draft: Draft, command: RollBack, move: _Move) -> list[str]:
    place = move.place
    assert place.head is not None  # _places takes no other  # noqa: S101
    code, settings, half = place.head.code, place.settings or Settings(), place.head.settings
    if move.code:
        old, _ = _stored(draft, place, move.code.number)
        code = replace(old.code, since=move.code.since, under=move.code.under) if old.code else code
    if move.settings:
        _, document = _stored(draft, place, move.settings.number)
        settings = document if command.restore_secrets else _with_present_secrets(document, settings)
        half = Half(digest=settings_digest(settings), since=move.settings.since, under=move.settings.under)
    problems = [f"{place.ref} would lack {name}" for name in code.requires.lacking(settings)] if code else []
    bound, dangling = bindings_of(draft, place, settings)
    restores = Restores(
        code=move.code.number if move.code else None, settings=move.settings.number if move.settings else None
    )
    note = describe(place.settings, settings)
    version = draft.next_version(place, code=code, settings=settings, halves=(half, code), restores=restores, note=note)
    draft.append(place, version, settings, f"{place.ref}@{version.number}: {_words(place, version, move)}", bound)
    return problems + dangling


def _with_present_secrets(document: Settings, present: Settings) -> Settings:
    return replace(document, cli=replace(document.cli, secrets=present.secrets))


def _words(place: Place, version: Version, move: _Move) -> str:
    words = []
    if move.code and version.code:
        before = place.head.code if place.head else None
        off = f"{digest.short(before.digest)} " if before else ""
        words.append(f"code {off}back to {digest.short(version.code.digest)} of version {move.code.number}")
    if move.settings:
        words.append(f"settings back to version {move.settings.number} ({version.note or 'same values'})")
    return ", ".join(words)


def _say_what_stays(draft: Draft, move: _Move, sides: tuple[Side, ...]) -> None:
    place = move.place
    if move.settings and not move.code and "code" in sides and place.head and place.head.code:
        code = place.head.code
        laid = place.head if code.since == place.head.number else _stored(draft, place, code.since)[0]
        draft.note(
            f"{place.ref}: code stays at {digest.short(code.digest)} ({laid.kind}, {_age(draft, laid)} before)"
            + ("; to undo that: --code-only" if code.under is not None else "")
        )


def _age(draft: Draft, version: Version) -> str:
    laid = datetime.fromisoformat(version.at)
    return ages.span(max(0.0, (draft.now - laid).total_seconds()))

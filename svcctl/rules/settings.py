"""Settings: what the file gives, what code needs, and the words for what changed."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from svcctl import wire
from svcctl.commands import Configure, Deploy
from svcctl.errors import Refused
from svcctl.model import Block, Settings
from svcctl.rules import closure
from svcctl.rules.draft import Draft
from svcctl.rules.state import Bound, Place


def block_of(draft: Draft, place: Place) -> Block | None:
    """The table of services.toml that the environment follows: one of its own name, else the one it began with."""
    service = draft.project.services.get(place.identity.service)
    if service is None:
        return None
    name = place.identity.name if place.identity.name in service.blocks else place.identity.block
    return service.block(name)


def owns_block(draft: Draft, place: Place) -> bool:
    """Whether routes and protection of that table are this environment's."""
    service = draft.project.services.get(place.identity.service)
    return service is not None and (place.identity.name in service.blocks or not place.identity.borrowed)


def first_settings(draft: Draft, place: Place) -> tuple[Place, Settings]:
    """The settings that a new version of `place` starts from: its head's; where the `file` layer was never written,
    with what services.toml says now, and the identity that comes along."""
    settings = place.settings or Settings()
    block = block_of(draft, place)
    if settings.file is not None or block is None:
        return place, settings
    if owns_block(draft, place):
        place = draft.apply_identity(place, block)
    return place, replace(settings, file=block.layer)


def bindings_of(draft: Draft, place: Place, settings: Settings) -> tuple[dict[str, Bound], list[str]]:
    """What the new head is bound to, and a sentence for each binding that leads nowhere."""
    bound, dangling = closure.bind(place.identity, settings, place.settings, draft)
    return bound, [
        f"{place.ref}: binding {each.name} leads to {each.service}/{each.environment}, which does not exist"
        for each in dangling
    ]


def command_for_missing(problems: Iterable[str]) -> str | None:
    """What to type to make the first missing binding's target."""
    for problem in problems:
        target = problem.partition(" leads to ")[2].partition(",")[0]
        service, _, environment = target.partition("/")
        if service:
            return f"svcctl deploy -s {service} --env {environment}"
    return None


def refuse_unless_forced(draft: Draft, problems: list[str], *, hint: str, next: str | None = None) -> None:
    """Problems that `--force` turns into notes."""
    if not problems:
        return
    if not draft.command.force:
        raise Refused("\n".join(problems), hint=hint, next=next)
    for problem in problems:
        draft.note(f"forced: {problem}")


def check_sealed(command: Configure | Deploy) -> None:
    """A value is for the environment that it was sealed for: who may seal for one must not try it in another."""
    for sealed in command.secrets:
        if sealed.environment != command.environment:
            raise Refused(
                f"{sealed.name} was sealed for {sealed.service}/{sealed.environment}, "
                f"not for {sealed.service}/{command.environment}"
            )


def describe(before: Settings | None, after: Settings) -> str | None:
    """`LOG_LEVEL changed, AUTH added`: effective names; then layers that changed without effect."""
    if before is after:
        return None
    old = before or Settings()
    words = [
        f"{name} {how}"
        for name, how in sorted(
            _named(old.vars, after.vars) | _named(old.bindings, after.bindings) | _named(old.secrets, after.secrets)
        )
    ]
    return ", ".join(words + _hidden(old, after)) or None


def _named(old: Mapping[str, object], new: Mapping[str, object]) -> set[tuple[str, str]]:
    changed = {(name, "changed") for name in old.keys() & new.keys() if not _equal(old[name], new[name])}
    return (
        changed
        | {(name, "added") for name in new.keys() - old.keys()}
        | {(name, "removed") for name in old.keys() - new.keys()}
    )


def _equal(old: object, new: object) -> bool:
    """As stored: to Python, `true` equals 1."""
    return wire.canonical(old) == wire.canonical(new)


def _hidden(old: Settings, new: Settings) -> list[str]:
    """A file value that changed beneath an override, or an override that came or went without effect."""
    words = []
    for kind in ("vars", "bindings"):
        before = getattr(old.file, kind) if old.file else {}
        after = getattr(new.file, kind) if new.file else {}
        over = getattr(new.cli, kind)
        for name in sorted(over):
            if name in getattr(old.cli, kind) and not _equal(before.get(name), after.get(name)):
                says = f"says {_short(after[name])}" if name in after else "says nothing"
                words.append(f"file now {says} for {name}; override {_short(over[name])} stays")
        for name in sorted(set(over) ^ set(getattr(old.cli, kind))):
            effective = getattr(new, kind).get(name)
            if _equal(getattr(old, kind).get(name), effective):
                words.append(f"override of {name} {'added' if name in over else 'removed'}, its value stays")
    return words


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"

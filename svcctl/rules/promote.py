"""Promote: the source's code, the target's own settings."""

from msgspec.structs import replace

from svcctl import digest, names, reference
from svcctl.commands import Promote
from svcctl.errors import NotFound, Refused
from svcctl.model import Model, Origin, Settings, Version
from svcctl.names import PRODUCTION
from svcctl.rules.closure import resolve
from svcctl.rules.draft import Draft
from svcctl.rules.reading import absent, check_one_service, version_at
from svcctl.rules.settings import bindings_of, first_settings, refuse_unless_forced
from svcctl.rules.state import Consent, Place, Plan


class _Pair(Model):
    source: Place
    version: Version
    target: Place


def promote(draft: Draft, command: Promote) -> Plan:
    if wrong := names.check_name(command.target):
        raise NotFound(f"no environment {command.target!r}: the name {wrong}")
    pairs = _pairs(draft, command)
    problems: list[str] = []
    for pair in pairs:
        problems += _lay(draft, pair)
    problems += _left_behind(draft, pairs)
    refuse_unless_forced(
        draft,
        problems,
        hint="promoting copies code alone: the target's own settings must hold what it requires (--force overrides)",
        next=_remedy(problems),
    )
    return draft.plan(_consent(draft, command, pairs))


def _pairs(draft: Draft, command: Promote) -> list[_Pair]:
    source = reference.parse(command.source)
    if source.environment == command.target:
        raise Refused(
            f"{command.target} can't be promoted to itself",
            next=f"svcctl rollback {command.target} --to VERSION",
        )
    services = draft.selected(source)
    check_one_service(source.at, services)
    sources = {place.identity.service: place for place in draft.places(services, source.environment)}
    if not sources:
        raise NotFound(f"no environment {source.environment!r}", hint=draft.near(source.environment, services))
    targets = {place.identity.service: place for place in draft.places(services, command.target)}
    pairs = []
    for service in services:
        place = sources.get(service)
        version = _source_version(draft, command, place, source) if place else None
        if place is None or version is None:
            draft.note(f"{service}: has no code in {command.source}; left as it is")
            continue
        target = targets.get(service) or _target(draft, service, command.target)
        draft.sources[service] = version.number
        if target is None:
            draft.note(f"{service}: has no environment {command.target} and the file names none; left out")
            continue
        pairs.append(_Pair(source=place, version=version, target=target))
    if not pairs:
        raise NotFound(
            f"nothing of {command.source} can go to {command.target}",
            hint="; ".join(draft.notes) or draft.near(command.target, services, draft.project.environments),
        )
    return pairs


def _source_version(draft: Draft, command: Promote, place: Place, source: reference.Reference) -> Version | None:
    """The version to promote: the one planned, else the one that the reference means now. None: no code there."""
    if command.sources is not None:
        planned = command.sources.get(place.identity.service)
        at: reference.At | None = reference.Number(planned) if planned else None
        if planned is None:
            return None
    else:
        at = source.at
    found = version_at(draft.state, place, at)
    if found is None and isinstance(at, reference.Number | reference.Back):
        raise absent(place.identity, at)
    return found[0] if found and found[0].code else None


def _target(draft: Draft, service: str, name: str) -> Place | None:
    """Created where the file names the environment; production always."""
    if name == PRODUCTION or (service in draft.project.services and name in draft.project.environments):
        return draft.place(service, name) or draft.create(service, name)
    return None


def _lay(draft: Draft, pair: _Pair) -> list[str]:
    code = pair.version.code
    target = pair.target
    if code is None or (target.head and code.same(target.head.code)):
        draft.note(f"{target.ref}: runs that code already")
        return []
    target, settings = first_settings(draft, target)
    problems = [f"{target.ref} lacks {name}, which the code requires" for name in code.requires.lacking(settings)]
    bound, dangling = bindings_of(draft, target, settings)
    version = draft.next_version(
        target,
        code=replace(code, since=0, under=None),
        settings=settings,
        origin=Origin(environment=pair.source.identity.id, number=pair.version.number),
    )
    sentence = (
        f"{target.ref}@{version.number}: code {digest.short(code.digest)} from {pair.source.ref}@{pair.version.number}"
    )
    target = draft.append(target, version, settings, sentence, bound)
    draft.carry_tags(target, version.number, draft.state.tags(pair.source.identity.id, pair.version.number))
    return problems + dangling


def _left_behind(draft: Draft, pairs: list[_Pair]) -> list[str]:
    """A promoted service may bind one that stays behind, if the binding leads to code all the same; the plan says
    where."""
    promoted = {pair.target.identity.service for pair in pairs}
    problems = []
    for pair in pairs:
        place = draft.by_id(pair.target.identity.id) or pair.target
        if place.head == pair.target.head:
            continue
        settings = place.settings or Settings()
        for name, binding in sorted(settings.bindings.items()):
            if binding.service is None or binding.service in promoted:
                continue
            reached = resolve(place.identity, name, binding, draft)
            if reached is None or reached.head is None or reached.head.code is None:
                where = f"{reached.ref}, which has no code" if reached else f"{binding.service}, which is not there"
                problems.append(f"{place.ref}: binding {name} leads to {where}")
            elif draft.owner(binding.service) == draft.project.name:
                version = f"@{reached.head.number}" if draft.sees(reached.identity) else ""
                draft.note(f"{place.ref}: binding {name} leads to {reached.ref}{version}")
    return problems


def _remedy(problems: list[str]) -> str | None:
    for problem in problems:
        place, found, rest = problem.partition(" lacks secret ")
        if found:
            service, _, environment = place.partition("/")
            return f"svcctl secrets set {rest.partition(',')[0]} -s {service} --env {environment}"
    for problem in problems:
        place, found, _ = problem.partition(" lacks ")
        if found:
            service, _, environment = place.partition("/")
            return f"svcctl deploy -s {service} --env {environment} --settings-only"
    return None


def _consent(draft: Draft, command: Promote, pairs: list[_Pair]) -> Consent | None:
    guarded = command.target == PRODUCTION or any(
        (draft.by_id(pair.target.identity.id) or pair.target).identity.protected for pair in pairs
    )
    if guarded or command.force:
        return Consent(kind="yes", reason=f"promote {command.source} to {command.target}")
    return None

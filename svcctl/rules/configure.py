"""Configure: new values in the `cli` layer, the same code."""

from collections.abc import Sequence

from msgspec.structs import replace

from svcctl import names
from svcctl.commands import Configure
from svcctl.errors import NotFound, Refused
from svcctl.model import Layer, Overrides, Purged, Settings
from svcctl.rules.draft import Draft
from svcctl.rules.settings import (
    bindings_of,
    block_of,
    check_sealed,
    command_for_missing,
    describe,
    first_settings,
    refuse_unless_forced,
)
from svcctl.rules.state import Consent, Keep, Place, Plan


class SetByFile(Refused):
    """Only services.toml gives `name` its value, for these services."""

    def __init__(self, name: str, environment: str, services: Sequence[str]) -> None:
        super().__init__(
            f"{name} is set by services.toml, not from the command line",
            hint="take it out of the file (or list it under `unset`) and deploy",
        )
        self.name = name
        self.environment = environment
        self.services = services


def configure(draft: Draft, command: Configure) -> Plan:
    for name in (*command.vars, *command.bindings, *(sealed.name for sealed in command.secrets)):
        if wrong := names.check_variable(name):
            raise Refused(f"{name!r} {wrong}")
    check_sealed(command)
    places = _places(draft, command)
    _refuse_unknown(draft, command, places)
    problems: list[str] = []
    for place in places:
        if _concerns(draft, command, place):
            problems += _lay(draft, command, place)
    refuse_unless_forced(
        draft, problems, hint="a binding needs what it leads to (--force overrides)", next=command_for_missing(problems)
    )
    return draft.plan(_consent(command))


def _consent(command: Configure) -> Consent | None:
    """Old ciphertexts do not come back."""
    if command.purge and command.unset_secrets:
        names_of = " ".join(command.unset_secrets)
        return Consent(kind="name", reason=f"destroy every stored value of {names_of}", name=names_of)
    return Consent(kind="yes", reason="--force binds to what does not exist") if command.force else None


def _places(draft: Draft, command: Configure) -> list[Place]:
    """Setting a value creates what the file names; taking one away does not."""
    services = _services(draft, command)
    if command.vars or command.bindings or command.secrets:
        if command.services is None:
            services = _having(draft, services, command.environment) or services
        return [draft.ensure(service, command.environment) for service in services]
    places = list(draft.places(services, command.environment))
    if not places:
        raise NotFound(f"no environment {command.environment!r}", hint=draft.near(command.environment, services))
    return places


def _having(draft: Draft, services: list[str], environment: str) -> list[str]:
    """Those with this environment, in the store or in the file; the others are named."""
    found = {place.identity.service for place in draft.places(services, environment)}
    if environment in draft.project.environments:
        found |= draft.project.services.keys()
    for service in services if found else ():
        if service not in found:
            draft.note(f"{service}: has no environment {environment}; left out")
    return [service for service in services if service in found]


def _services(draft: Draft, command: Configure) -> list[str]:
    if command.services is None:
        return sorted({*draft.state.services(draft.project.name), *draft.project.services})
    return [service if service in draft.project.services else draft.known(service) for service in command.services]


def _refuse_unknown(draft: Draft, command: Configure, places: list[Place]) -> None:
    """What is unset must be an override in at least one service; the file's own values are the file's business."""
    for kind, unset in (("vars", command.unset_vars), ("bindings", command.unset_bindings)):
        for name in unset:
            documents = [place.settings for place in places if place.settings]
            if any(name in getattr(document.cli, kind) for document in documents):
                continue
            if services := [place.identity.service for place in places if _in_file(place, kind, name)]:
                raise SetByFile(name, command.environment, services)
            known = {key for document in documents for key in getattr(document.cli, kind)}
            raise NotFound(f"no override {name!r} in {command.environment}", hint=names.did_you_mean(name, known))
    known = {key for place in places if place.settings for key in place.settings.secrets}
    if command.purge:  # of a secret that is gone, older values may still be there
        known |= {key for place in places for key in draft.state.stored_secrets(place.identity.id)}
    for name in command.unset_secrets:
        if name in known:
            continue
        if command.purge:  # typed again, it alters nothing; a slip of the name must not read as done
            draft.note(f"no value of {name} is stored in {command.environment}")
        else:
            raise NotFound(f"no secret {name!r} in {command.environment}", hint=names.did_you_mean(name, known))


def _concerns(draft: Draft, command: Configure, place: Place) -> bool:
    """What only takes names away leaves a service alone that has none of them."""
    if command.vars or command.bindings or command.secrets:
        return True
    cli = place.settings.cli if place.settings else Overrides()
    gone = {*command.unset_vars, *command.unset_bindings, *command.unset_secrets}
    older = draft.state.stored_secrets(place.identity.id) if command.purge else ()
    return bool(gone & {*cli.vars, *cli.bindings, *cli.secrets, *older})


def _in_file(place: Place, kind: str, name: str) -> bool:
    return bool(place.settings and place.settings.file and name in getattr(place.settings.file, kind))


def _lay(draft: Draft, command: Configure, place: Place) -> list[str]:
    place, before = first_settings(draft, place)
    settings = replace(before, cli=_overrides(draft, command, place, before))
    _refuse_open_secrets(draft, command, place)
    _refuse_clashes(place, settings)
    if command.purge and command.unset_secrets:
        place = _purge(draft, command, place)
    bound, dangling = bindings_of(draft, place, settings)
    note = describe(place.settings, settings)
    version = draft.next_version(place, code=None, settings=settings, note=note)
    if place.head and version.settings == place.head.settings:
        draft.note(f"{place.ref}: has these settings already")
        return []
    draft.append(place, version, settings, f"{place.ref}@{version.number}: {note or 'settings written'}", bound)
    # A binding that led nowhere before must not stop the next change of a log level; nor may one of the file stop a
    # service's first secret, without which it can't be deployed. Deploy asks for it.
    return [problem for problem in dangling if problem not in bindings_of(draft, place, before)[1]]


def _purge(draft: Draft, command: Configure, place: Place) -> Place:
    stored = draft.state.stored_secrets(place.identity.id)
    names_of = tuple(name for name in command.unset_secrets if name in stored)
    if not names_of:
        return place
    words = f"{place.ref}: older values of {', '.join(names_of)} destroyed"
    return draft.change(place, words, Purged(names=names_of))


def _overrides(draft: Draft, command: Configure, place: Place, settings: Settings) -> Overrides:
    old = settings.cli
    secrets = {name: value for name, value in old.secrets.items() if name not in command.unset_secrets}
    for sealed in command.secrets:
        if sealed.service == place.identity.service and secrets.get(sealed.name) != sealed.fingerprint:
            secrets[sealed.name] = sealed.fingerprint
            id = place.identity.id
            draft.keep_secret(Keep(environment=id, sealed=sealed, name=sealed.name, fingerprint=sealed.fingerprint))
    return Overrides(
        vars={name: value for name, value in old.vars.items() if name not in command.unset_vars} | command.vars,
        bindings={name: value for name, value in old.bindings.items() if name not in command.unset_bindings}
        | command.bindings,
        secrets=secrets,
    )


def _refuse_clashes(place: Place, settings: Settings) -> None:
    """A name means one thing in a handler's `env`."""
    file = settings.file or Layer()
    kinds = {
        "var": {*file.vars, *settings.cli.vars},
        "binding": {*file.bindings, *settings.cli.bindings},
        "secret": {*settings.secrets},
    }
    for kind, others in (("var", ("binding", "secret")), ("binding", ("secret",))):
        for other in others:
            if both := sorted(kinds[kind] & kinds[other]):
                raise Refused(f"{place.ref}: {both[0]} would be both a {kind} and a {other}")


def _refuse_open_secrets(draft: Draft, command: Configure, place: Place) -> None:
    """A var is kept in clear, and shown."""
    block = block_of(draft, place)
    for name in sorted(set(command.vars) & set(block.secrets if block else ())):
        raise Refused(
            f"{name} is a secret of {place.identity.service} in services.toml",
            next=f"svcctl secrets set {name} -s {place.identity.service} --env {place.identity.name}",
        )

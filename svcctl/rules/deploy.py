"""Deploy: new code and the file's settings, for several services in one change. The order of services does not matter:
all places exist before the first version is made, so cycles of bindings are fine."""

from msgspec.structs import replace

from svcctl import digest, names
from svcctl.commands import Deploy
from svcctl.errors import ConsentNeeded, NotFound, Refused
from svcctl.model import Block, Code, ServiceFile, Settings
from svcctl.rules import settings as rules_of_settings
from svcctl.rules.draft import Draft
from svcctl.rules.reading import check_tag
from svcctl.rules.settings import bindings_of, block_of, check_sealed, describe, owns_block
from svcctl.rules.state import Consent, Keep, Place, Plan


def deploy(draft: Draft, command: Deploy) -> Plan:
    services = _services(draft, command)
    if command.tag is not None:
        check_tag(command.tag)
    check_sealed(command)
    moving = _move_domain(draft)
    places = _places(draft, command, services)
    if not command.settings_only:
        _refuse_protected(draft, places)
    problems: list[str] = []
    for place in places:
        problems += _lay(draft, command, place)
    if problems and not command.force:
        raise Refused(
            "\n".join(problems), next=rules_of_settings.command_for_missing(problems) or _secrets_command(problems)
        )
    for problem in problems:
        draft.note(f"forced: {problem}")
    if moving and not command.move_domain:
        raise moving  # after every refusal: a question comes last
    return draft.plan(Consent(kind="yes", reason="--force overrides the checks of a deploy") if command.force else None)


def _services(draft: Draft, command: Deploy) -> list[str]:
    services = list(command.services if command.services is not None else draft.project.services)
    for service in services:
        if service not in draft.project.services:
            hint = names.did_you_mean(service, draft.project.services)
            raise NotFound(f"services.toml has no service {service!r}", hint=hint)
    return services


def _places(draft: Draft, command: Deploy, services: list[str]) -> list[Place]:
    for service in services:
        draft.ensure_service(service, adopt=command.adopt)
    return [draft.ensure(service, command.environment) for service in services]


def _move_domain(draft: Draft) -> ConsentNeeded | None:
    """Hostnames follow the file's domain in the same change, with a yes: what to say where there is none."""
    old, wanted = draft.domain, draft.project.domain
    if wanted is None or wanted == old:
        return None
    draft.set_domain(wanted)
    moved = list(draft.places(draft.state.services(draft.project.name)))
    for place in moved:
        draft.rehost(place)
    if not moved:
        return None
    return ConsentNeeded(
        f"services.toml says domain {wanted!r}, but the project's hostnames are under {old!r}",
        hint=f"the hostnames of {len(moved)} environments would move at once",
        next="svcctl deploy --move-domain",
    )


def _refuse_protected(draft: Draft, places: list[Place]) -> None:
    for place in places:
        block = block_of(draft, place)
        if place.identity.protected or (block and block.protected and owns_block(draft, place)):
            source = draft.project.default_environment or "staging"
            raise Refused(
                f"{place.ref} is protected: code arrives there by promote or roll back only",
                hint="settings of the file can be deployed with --settings-only",
                next=f"svcctl promote {source} {place.identity.name}",
            )


def _lay(draft: Draft, command: Deploy, place: Place) -> list[str]:
    """One service's new version, if code or settings differ; returns what stands against it."""
    service = draft.project.services[place.identity.service]
    block = block_of(draft, place) or Block()
    if owns_block(draft, place):
        place = draft.apply_identity(draft.by_id(place.identity.id) or place, block)
    code = None if command.settings_only else command.code.get(place.identity.service)
    settings = _with_secrets(draft, command, place, replace(place.settings or Settings(), file=block.layer))
    problems = _missing_secrets(place, code, block, service, settings)
    bound, dangling = bindings_of(draft, place, settings)
    version = draft.next_version(place, code=code, settings=settings, note=describe(place.settings, settings))
    if place.head and version.settings == place.head.settings and version.code == place.head.code:
        _tag_head(draft, command, place)
        return []
    _say_what_returns(draft, place, settings)
    words = [_code_words(version.code)] if version.code and version.code.since == version.number else []
    words += [f"settings: {version.note}"] if version.note else []
    sentence = f"{place.ref}@{version.number}: {', '.join(words) or 'settings written'}"
    place = draft.append(place, version, settings, sentence, bound)
    if command.tag:
        draft.tag(place, _free_tag(draft, command.tag, place, version.number), version.number)
    return problems + dangling


def _code_words(code: Code) -> str:
    commit = f" ({code.commit.sha[:7]} {code.commit.subject})" if code.commit else ""
    return f"code {digest.short(code.digest)}{commit}"


def _with_secrets(draft: Draft, command: Deploy, place: Place, settings: Settings) -> Settings:
    secrets = dict(settings.secrets)
    for sealed in command.secrets:
        if sealed.service == place.identity.service and secrets.get(sealed.name) != sealed.fingerprint:
            secrets[sealed.name] = sealed.fingerprint
            keep = Keep(environment=place.identity.id, sealed=sealed, name=sealed.name, fingerprint=sealed.fingerprint)
            draft.keep_secret(keep)
    return replace(settings, cli=replace(settings.cli, secrets=secrets))


def _missing_secrets(
    place: Place, code: Code | None, block: Block, service: ServiceFile, settings: Settings
) -> list[str]:
    if code is None:
        return []
    names_of = [name for name in block.secrets if name not in service.optional and name not in settings.secrets]
    return [f"{place.ref} lacks secret {name}" for name in names_of]


def _secrets_command(problems: list[str]) -> str | None:
    place, found, name = problems[0].partition(" lacks secret ")
    service, _, environment = place.partition("/")
    return f"svcctl secrets set {name} -s {service} --env {environment}" if found else None


def _free_tag(draft: Draft, tag: str, place: Place, number: int) -> str:
    holder = draft.state.tagged(place.identity.id, tag)
    if holder is not None and holder != number:
        raise Refused(
            f"tag {tag!r} is on {place.ref}@{holder} already",
            hint="a tag names one version of an environment for good",
            next=f"svcctl tag {place.ref}@{holder} {tag} --remove",
        )
    return tag


def _tag_head(draft: Draft, command: Deploy, place: Place) -> None:
    if command.tag and place.head and draft.state.tagged(place.identity.id, command.tag) != place.head.number:
        draft.tag(place, _free_tag(draft, command.tag, place, place.head.number), place.head.number)


def _say_what_returns(draft: Draft, place: Place, settings: Settings) -> None:
    """A deploy writes the file's settings again, also those that roll backs took off: it names them."""
    now, new = _named(place.settings), _named(settings)
    changing = {name for name in now.keys() | new.keys() if now.get(name) != new.get(name)}
    for number in draft.state.settings_rollbacks(place.identity.id) if changing and place.settings else ():
        rolled, before = (draft.state.version(place.identity.id, each) for each in (number, number - 1))
        if rolled is None or before is None:
            continue
        kept, bad = _named(rolled[1]), _named(before[1])
        back = {name for name in changing if new.get(name) == bad.get(name) != kept.get(name)}
        for name in sorted(back):
            draft.note(
                f"{place.ref}: brings back {name}, which {rolled[0].actor} rolled back in version {number}; "
                "change services.toml to keep it off"
            )
        changing -= back


def _named(settings: Settings | None) -> dict[str, object]:
    return {**settings.vars, **settings.bindings} if settings else {}

"""Tokens of the API come and go. Their names are unique among those that are in force."""

import re

from svcctl import names
from svcctl.commands import CreateToken, RevokeToken
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Grant, Token, TokenCreated, TokenRevoked
from svcctl.rules import access
from svcctl.rules.draft import Draft
from svcctl.rules.state import Plan

NAME_LENGTH = 100
_PATTERN = re.compile(r"[a-z0-9*?-]{1,40}")
_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def create(draft: Draft, command: CreateToken) -> Plan:
    grant = command.grant
    _check(draft, command)
    for known in draft.state.tokens():
        if known.name == grant.name and known.revoked is None:
            if not access.is_expired(known, draft.at):
                raise Refused(
                    f"there is a token {grant.name!r} already",
                    hint="its secret was shown once, when it was made; if it is lost, revoke the token",
                    next=f"svcctl token revoke {known.id}",
                )
            _revoke(draft, known, "it had expired")
    id = draft.new_token_id()
    until = f", until {grant.expires}" if grant.expires else ""
    words = f"token {grant.name!r} ({id}): {grant.role} for {access.scope(grant)}{until}"
    draft.own(words, TokenCreated(id=id, hash=command.hash, grant=grant))
    return draft.plan()


def revoke(draft: Draft, command: RevokeToken) -> Plan:
    known = list(draft.state.tokens())
    found = [each for each in known if command.token in {each.id, each.name}]
    in_force = [each for each in found if each.revoked is None]
    if not found:
        guess = names.did_you_mean(command.token, [each.name for each in known])
        raise NotFound(f"no token {command.token!r}", hint=guess, next="svcctl token list")
    if not in_force:
        draft.note(f"token {found[0].name!r} was revoked at {found[-1].revoked}")
    for each in in_force:
        _revoke(draft, each, "nothing can be done with it from now on")
    return draft.plan()


def _revoke(draft: Draft, token: Token, why: str) -> None:
    draft.own(f"token {token.name!r} ({token.id}): revoked; {why}", TokenRevoked(id=token.id, name=token.name))


def _check(draft: Draft, command: CreateToken) -> None:
    grant = command.grant
    if wrong := check_name(grant.name):
        raise UsageError(f"token {grant.name!r} {wrong}")
    if not _HASH.fullmatch(command.hash):
        raise UsageError("the hash of a token's secret is 64 hex digits")
    for kind, patterns in (("service", grant.services), ("environment", grant.environments)):
        if not patterns:
            raise UsageError(f"a token for no {kind} is for nothing", hint=f"a pattern such as * reaches every {kind}")
        for each in patterns:
            if not _PATTERN.fullmatch(each):
                raise UsageError(
                    f"{each!r} is no pattern of {kind}s",
                    hint="a name, in which * stands for any text and ? for any letter",
                )
    if grant.expires is not None:
        _check_expiry(draft, grant, grant.expires)


def _check_expiry(draft: Draft, grant: Grant, expires: str) -> None:
    if not _TIME.fullmatch(expires):
        raise UsageError(f"{expires!r} is no time", hint="such as 2026-11-23T11:12:39.123Z")
    if access.is_expired(grant, draft.at):
        raise UsageError(f"a token that expires at {expires} would never be good for anything")


def check_name(name: str) -> str | None:
    """A word such as `ci`, or a person: `Ada <ada@example.com>`."""
    if not name or name != name.strip() or not name.isprintable():
        return "must be text on one line, without spaces around it"
    if len(name) > NAME_LENGTH:
        return f"is {len(name)} characters long; {NAME_LENGTH} is the limit"
    return None

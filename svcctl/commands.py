"""The typed values that ask for a mutation. Each goes through `Backend.apply`; there is no other door.

A command's `id` (UUIDv7) is its idempotency key and becomes the id of the change: applied again, it returns the first
change. `expect` are the heads it was planned on, by place (`shop/production`; None: no version): with it, a head that
moved is a conflict. Commands without it are deltas, applied to the head found inside the transaction.
"""

import os
import time
from typing import Any

import msgspec

from svcctl.digest import Digest
from svcctl.model import Binding, Code, Grant, Model, Project, Sealed, Value

NO_PROJECT = Project(name="")
"""Of commands that concern the store as a whole."""


def new_id() -> str:
    """UUIDv7 (RFC 9562): 48 bits of milliseconds, then random; sorts by time."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62
    digits = f"{value | random & (1 << 62) - 1:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Base(Model, tag_field="kind", kw_only=True):
    id: str
    project: Project
    """The file's layers for the targets travel along: an environment without any receives them in the same change."""
    services: tuple[str, ...] | None = None
    """None: all services of the project."""
    message: str | None = None
    meta: dict[str, str] = {}
    force: bool = False
    expect: dict[str, int | None] | None = None
    planned: bool = False
    """`expect` names every head that the plan touched: one more is a conflict too."""


class Deploy(Base, tag="deploy", kw_only=True):
    environment: str
    code: dict[str, Code] = {}
    """By service; empty with `settings_only`."""
    settings_only: bool = False
    tag: str | None = None
    secrets: tuple[Sealed, ...] = ()
    adopt: bool = False
    move_domain: bool = False
    """The yes to hostnames moving with the file's new domain."""


class Configure(Base, tag="configure", kw_only=True):
    """Changes the `cli` layer."""

    environment: str
    vars: dict[str, Value] = {}
    unset_vars: tuple[str, ...] = ()
    bindings: dict[str, Binding] = {}
    unset_bindings: tuple[str, ...] = ()
    secrets: tuple[Sealed, ...] = ()
    unset_secrets: tuple[str, ...] = ()
    purge: bool = False
    """Also destroy the older values of the secrets that are unset."""


class Promote(Base, tag="promote", kw_only=True):
    source: str
    """A reference, as typed."""
    target: str
    sources: dict[str, int] | None = None
    """Planned: the version of each service that `source` meant."""


class RollBack(Base, tag="rollback", kw_only=True):
    environment: str
    to: str | None = None
    """A number, tag, -N or cN, as typed."""
    code_only: bool = False
    settings_only: bool = False
    restore_secrets: bool = False


class Clone(Base, tag="clone", kw_only=True):
    source: str
    """A reference, as typed."""
    target: str
    no_secrets: bool = False
    exist_ok: bool = False
    ttl: int | None = None
    """Seconds to live."""
    share: tuple[str, ...] = ()
    """KV bindings, by their name or their label, that reach the source's namespaces."""


class CreateEnvironment(Base, tag="create", kw_only=True):
    environment: str
    exist_ok: bool = False
    ttl: int | None = None


class Rename(Base, tag="rename", kw_only=True):
    old: str
    new: str


class DeleteEnvironment(Base, tag="delete", kw_only=True):
    environment: str


class Prune(Base, tag="prune", kw_only=True):
    """Deletes the environments whose time to live is over."""


class Protect(Base, tag="protect", kw_only=True):
    environment: str
    on: bool


class Route(Base, tag="route", kw_only=True):
    """Routes of the `cli` layer. Needs exactly one service."""

    environment: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class TagVersion(Base, tag="tag", kw_only=True):
    reference: str
    name: str
    remove: bool = False


class DeleteService(Base, tag="delete-service", kw_only=True):
    service: str


class CreateToken(Base, tag="create-token", kw_only=True):
    """Its secret is made by whoever sends this, and never sent."""

    grant: Grant
    hash: Digest
    project: Project = NO_PROJECT


class RevokeToken(Base, tag="revoke-token", kw_only=True):
    token: str
    """A name or an id."""
    project: Project = NO_PROJECT


Command = (
    Deploy
    | Configure
    | Promote
    | RollBack
    | Clone
    | CreateEnvironment
    | Rename
    | DeleteEnvironment
    | Prune
    | Protect
    | Route
    | TagVersion
    | DeleteService
    | CreateToken
    | RevokeToken
)


def as_typed(command: Command) -> Command:
    """What the user asked for, without what planning added: equal for the same command typed again."""
    plain: dict[str, Any] = {"id": "", "expect": None, "planned": False}
    if isinstance(command, Promote):
        plain["sources"] = None
    if isinstance(command, CreateToken):
        plain["hash"] = ""
    if isinstance(command, Deploy | Configure):
        plain["secrets"] = tuple(msgspec.structs.replace(sealed, ciphertext="") for sealed in command.secrets)
    return msgspec.structs.replace(command, **plain)

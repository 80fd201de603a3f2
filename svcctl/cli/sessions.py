"""Who one is to an API: what `login`, `logout` and `whoami` share."""

from collections.abc import Iterator
from pathlib import Path

from svcctl.cli.context import Context, backend_location, is_api, located
from svcctl.cli.output import Block, Fields, When
from svcctl.errors import UsageError
from svcctl.model import Grant, Model, Role
from svcctl.rules import access
from svcctl.text import mask_urls


class Identity(Model):
    """What the backend takes you for."""

    backend: str
    name: str
    role: Role
    services: tuple[str, ...]
    environments: tuple[str, ...]
    expires: str | None = None


def api_of(context: Context, place: str | None) -> str:
    """The URL that was typed, or that of the backend in use."""
    location = located(context, place) if place else backend_location(context)
    if is_api(location):
        return str(location)
    raise UsageError(
        f"{location} is a store of this machine: it asks for no token", hint="name the API: svcctl login https://…"
    )


def of_grant(backend: str, grant: Grant) -> Identity:
    return Identity(
        backend=backend,
        name=grant.name,
        role=grant.role,
        services=grant.services,
        environments=grant.environments,
        expires=grant.expires,
    )


def of_store(location: str | Path, actor: str) -> Identity:
    """Whoever may write a store's files may do everything."""
    return Identity(backend=mask_urls(str(location)), name=actor, role="admin", services=("*",), environments=("*",))


def blocks(identity: Identity) -> Iterator[Block]:
    grant = Grant(
        name=identity.name, role=identity.role, services=identity.services, environments=identity.environments
    )
    yield Fields(
        [
            ("backend", identity.backend),
            ("name", identity.name),
            ("role", identity.role),
            ("scope", access.scope(grant)),
            *([("expires", When(identity.expires))] if identity.expires else []),
        ]
    )

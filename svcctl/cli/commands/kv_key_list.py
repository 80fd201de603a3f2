from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from msgspec import json

from svcctl import ages, keyvalues
from svcctl.cli import consent, namespaces
from svcctl.cli.context import Context
from svcctl.cli.namespaces import BindingOption
from svcctl.cli.options import CursorOption, EnvOption, LimitOption, OneServiceOption
from svcctl.cli.output import Block, Note, Table, When
from svcctl.errors import UsageError
from svcctl.model import Model


class ListedKey(Model):
    name: str
    expiration: int | None = None
    """In seconds since 1970."""
    metadata: Any = None


def kv_key_list(
    context: Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[NAMESPACE]")] = None,
    binding: BindingOption = None,
    env: EnvOption = None,
    service: OneServiceOption = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Keys that begin with it.")] = "",
    limit: LimitOption = 1000,
    cursor: CursorOption = None,
) -> None:
    """List the keys of a namespace.

    In the order of their bytes. NAMESPACE is a KV binding of the environment, or its label."""
    namespace, rest = namespaces.chosen(context, words or (), binding, env, service)
    if rest:
        raise UsageError("keys are narrowed by --prefix")
    with namespaces.checking():
        keyvalues.check_prefix(prefix)
        page = namespace.store.list(namespace.name, prefix, limit, cursor, context.now.timestamp())
    keys = [
        ListedKey(
            name=key.name, expiration=key.expires, metadata=None if key.metadata is None else json.decode(key.metadata)
        )
        for key in page.keys
    ]
    context.show({"keys": keys, "next": page.cursor}, _blocks(context, keys, page.cursor))


def _blocks(context: Context, keys: list[ListedKey], cursor: str | None) -> Iterator[Block]:
    rows = [
        [
            key.name,
            None if key.expiration is None else When(_timestamp(key.expiration)),
            None if key.metadata is None else json.encode(key.metadata).decode(),
        ]
        for key in keys
    ]
    yield Table(["key", "expires", "metadata"], rows, empty="no keys")
    if cursor:
        yield Note(f"there is more: {consent.next_page(context, cursor)}")


def _timestamp(seconds: int) -> str:
    """The last moment that can be written stands for all beyond."""
    try:
        return ages.timestamp(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return ages.timestamp(datetime.max.replace(tzinfo=UTC))

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from msgspec import json

from svcctl import keyvalues, wire
from svcctl.cli import namespaces
from svcctl.cli.context import Context
from svcctl.cli.namespaces import BindingOption, Namespace, StoredEntry
from svcctl.cli.options import EnvOption, OneServiceOption
from svcctl.cli.output import write
from svcctl.errors import UsageError


def kv_export(
    context: Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[NAMESPACE]")] = None,
    binding: BindingOption = None,
    env: EnvOption = None,
    service: OneServiceOption = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Keys that begin with it.")] = "",
) -> None:
    """Print all entries of a namespace, a JSON object a line.

    For `svcctl kv import`, here or elsewhere. A value that is no UTF-8 is base64. NAMESPACE is a KV binding of the
    environment, or its label."""
    namespace, rest = namespaces.chosen(context, words or (), binding, env, service)
    if rest:
        raise UsageError("entries are narrowed by --prefix")
    with namespaces.checking():
        keyvalues.check_prefix(prefix)
    entries = _entries(namespace, prefix, context.now.timestamp())
    if context.json:
        context.show({"entries": list(entries)}, ())
        return
    for entry in entries:
        write(sys.stdout, _line(entry))


def _entries(namespace: Namespace, prefix: str, now: float) -> Iterator[StoredEntry]:
    """Keys that come or go meanwhile may be there or not; each entry is whole."""
    cursor = None
    while True:
        page = namespace.store.list(namespace.name, prefix, keyvalues.LIST_LIMIT, cursor, now)
        for key in page.keys:
            if entry := namespace.store.get(namespace.name, key.name, now):
                yield namespaces.as_stored(key.name, entry)
        cursor = page.cursor
        if cursor is None:
            return


def _line(entry: StoredEntry) -> str:
    """Only ASCII: what handlers stored must not drive a terminal."""
    from json import dumps

    found = dumps(json.decode(wire.canonical(entry)), separators=(",", ":"))
    return found.replace("\x7f", "\\u007f") + "\n"

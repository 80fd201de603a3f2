import json
from pathlib import Path
from typing import Annotated, Any

import typer

from svcctl import keyvalues
from svcctl.cli import consent, namespaces, times, views
from svcctl.cli.context import Context
from svcctl.cli.namespaces import BindingOption
from svcctl.cli.options import EnvOption, OneServiceOption
from svcctl.cli.output import Success
from svcctl.errors import UsageError
from svcctl.keyvalues import Entry


def kv_key_put(
    context: Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[NAMESPACE] KEY [VALUE]", help="Without VALUE it is read from standard input."),
    ],
    binding: BindingOption = None,
    env: EnvOption = None,
    service: OneServiceOption = None,
    path: Annotated[Path | None, typer.Option("--path", metavar="FILE", help="The value is this file.")] = None,
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", metavar="TIME", help="Until it expires: seconds, or such as 12h. 60 s at least."),
    ] = None,
    expiration: Annotated[
        int | None, typer.Option("--expiration", metavar="SECONDS", help="When it expires, in seconds since 1970.")
    ] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", metavar="JSON", help="Kept beside the value.")] = None,
) -> None:
    """Write a key.

    It is durable, and seen by every handler, when this returns. NAMESPACE is a KV binding of the environment, or its
    label."""
    namespace, rest = namespaces.chosen(context, words, binding, env, service)
    if not 1 <= len(rest) <= (1 if path else 2):
        raise UsageError("give a KEY, and its value once: as VALUE, with --path or on standard input")
    with namespaces.checking():
        keyvalues.check_key("PUT", rest[0])
        kept = keyvalues.metadata_of(_parsed(metadata))
        now = context.now.timestamp()
        seconds = None if ttl is None else _seconds(ttl)
        expires = keyvalues.expires_of(now, seconds, expiration)
        value = rest[1].encode() if len(rest) == 2 else _read(context, path)
        keyvalues.check_value_size(len(value))
    namespace.store.put_all(namespace.name, [(rest[0], Entry(value, kept, expires, seconds))])
    answer = {
        "ref": namespace.ref,
        "binding": namespace.binding,
        "key": rest[0],
        "size": len(value),
        "expiration": expires,
    }
    context.show(
        answer, [Success(f"{namespace.ref}: {namespace.binding} has {rest[0]} ({views.counted(len(value), 'byte')})")]
    )


def _seconds(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else times.seconds(text)


def _parsed(metadata: str | None) -> Any:
    try:
        return None if metadata is None else json.loads(metadata)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"--metadata: is not JSON ({error})", hint="a text stands in quotes: '\"a\"'") from None


def _read(context: Context, path: Path | None) -> bytes:
    if (path is None or str(path) == "-") and consent.can_ask(context):
        raise UsageError("the key has no value", hint="give it as VALUE, with --path or on standard input")
    return context.read(path or "-", keyvalues.VALUE_SIZE + 1)

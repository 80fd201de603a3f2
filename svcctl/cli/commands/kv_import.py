import base64
import binascii
from collections.abc import Iterator
from io import BytesIO
from typing import Annotated, Any, BinaryIO

import msgspec
import typer

from svcctl import keyvalues
from svcctl.cli import namespaces, views
from svcctl.cli.context import Context
from svcctl.cli.namespaces import BindingOption, Given
from svcctl.cli.options import EnvOption, OneServiceOption
from svcctl.cli.output import Block, Note, Success
from svcctl.errors import UsageError
from svcctl.keyvalues import Entry, KVError

_TOGETHER = 500
_SIZE = 4_000_000


def kv_import(
    context: Context,
    words: Annotated[
        list[str], typer.Argument(metavar="[NAMESPACE] FILE", help="JSON lines, or a JSON array; - is standard input.")
    ],
    binding: BindingOption = None,
    env: EnvOption = None,
    service: OneServiceOption = None,
) -> None:
    """Write the entries of a file into a namespace.

    FILE is what `svcctl kv export` printed, or a bulk file of wrangler's: objects of key, value and, where wanted,
    base64, expiration, expiration_ttl and metadata. All are checked before the first is written. Killed in between, it
    leaves the first ones written; typed again, it writes all. NAMESPACE is a KV binding of the environment, or its
    label."""
    namespace, rest = namespaces.chosen(context, words, binding, env, service)
    if len(rest) != 1:
        raise UsageError("give one FILE, or - for standard input")
    now = context.now.timestamp()
    # It is read twice, so that nothing is written unless every line is an entry.
    with BytesIO(context.read("-")) if rest[0] == "-" else context.opened(rest[0]) as file:
        count = sum(1 for _ in _entries(file, rest[0], now))
        file.seek(0)
        expired = 0
        step: list[tuple[str, Entry]] = []
        size = 0
        for key, entry in _entries(file, rest[0], now):
            if entry.expires is not None and entry.expires <= now:
                expired += 1
                continue
            step.append((key, entry))
            size += len(entry.value)
            if len(step) == _TOGETHER or size > _SIZE:
                namespace.store.put_all(namespace.name, step)
                step, size = [], 0
        if step:
            namespace.store.put_all(namespace.name, step)
    answer = {"ref": namespace.ref, "binding": namespace.binding, "written": count - expired, "expired": expired}
    context.show(answer, _blocks(f"{namespace.ref}: {namespace.binding}", count - expired, expired))


def _blocks(where: str, written: int, expired: int) -> Iterator[Block]:
    yield Success(f"{where} has {written:,} imported {'entry' if written == 1 else 'entries'}")
    if expired:
        yield Note(f"{views.counted(expired, 'line')} left out: expired by now")


def _entries(file: BinaryIO, path: str, now: float) -> Iterator[tuple[str, Entry]]:
    for where, item in _items(file, path):
        try:
            given = msgspec.convert(item, Given)
            yield given.key, _entry(given, now)
        except (msgspec.ValidationError, KVError, binascii.Error) as error:
            raise UsageError(f"{path}:{where}: {error}", hint="nothing was written") from None


def _items(file: BinaryIO, path: str) -> Iterator[tuple[int, Any]]:
    """Each with its line, or its place in the array."""
    first = file.readline()
    file.seek(0)
    array = first.lstrip().startswith(b"[")
    number = 1
    try:
        if array:
            yield from enumerate(msgspec.json.decode(file.read(), type=list), 1)
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{path}{'' if array else f':{number}'}: is not JSON ({error})", hint="nothing was written"
        ) from None


def _entry(given: Given, now: float) -> Entry:
    keyvalues.check_key("PUT", given.key)
    value = base64.b64decode(given.value, validate=True) if given.base64 else given.value.encode()
    keyvalues.check_value_size(len(value))
    ends = given.expiration
    if given.expiration_ttl is not None:
        ends = keyvalues.expires_of(now, given.expiration_ttl, None)
    return Entry(value, keyvalues.metadata_of(given.metadata), ends, given.expiration_ttl)

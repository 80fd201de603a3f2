"""Which KV namespace a command means, and its entries as files hold them."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.errors import NotFound, UsageError
from svcctl.keyvalues import Entry, KeyValues, KVError
from svcctl.model import Model
from svcctl.names import did_you_mean

BindingOption = Annotated[
    str | None,
    typer.Option("--binding", "-b", metavar="NAME", help="The KV binding; then NAMESPACE is left out."),
]


class Namespace(NamedTuple):
    """What a KV binding of one environment's head reaches."""

    ref: str
    """`shop/staging`: where the binding stands."""
    binding: str
    label: str
    name: str
    store: KeyValues


class StoredEntry(Model):
    """A line of an export; also what wrangler's bulk files hold."""

    key: str
    value: str
    base64: bool = False
    """`value` is base64: what was put is no UTF-8."""
    expiration: int | None = None
    metadata: Any = None


class Given(StoredEntry, forbid_unknown_fields=True):
    """A line of an import."""

    expiration_ttl: int | None = None


def chosen(
    context: Context, words: Sequence[str], binding: str | None, env: str | None, service: str | None
) -> tuple[Namespace, list[str]]:
    """The namespace, by --binding or else by the first of `words`; and the other words."""
    env, service = target.narrowed_one(env, service)
    if binding is None:
        if not words:
            raise UsageError("which namespace? Name its binding or its label", hint="first, or with --binding")
        binding, words = words[0], words[1:]
    return _bound(context, binding, target.one_service(context, service), target.environment(context, env)), [*words]


def _bound(context: Context, wanted: str, service: str, name: str) -> Namespace:
    backend = context.backend
    environment = backend.environment(service, name)
    bindings = {name: each for name, each in backend.settings_of(environment).bindings.items() if each.kv is not None}
    reached = backend.namespaces(service, name)
    found = [wanted] if wanted in bindings else [name for name, each in bindings.items() if each.kv == wanted]
    if not found:
        raise NotFound(
            f"{environment.ref} has no KV binding {wanted!r}",
            hint=did_you_mean(wanted, {*bindings, *(each.kv or "" for each in bindings.values())}),
            next=f"svcctl env show {environment.ref}",
        )
    if len({reached.get(name) for name in found}) > 1:
        raise UsageError(f"{wanted} is the label of several namespaces", hint=f"name one of {', '.join(found)}")
    binding = found[0]
    if binding not in reached:
        raise NotFound(f"{environment.ref}: binding {binding} leads to an environment that does not exist")
    label = bindings[binding].kv or ""
    return Namespace(environment.ref, binding, label, reached[binding], backend.keyvalues)


@contextmanager
def checking(where: str = "") -> Iterator[None]:
    """What breaks KV's rules is an error of who typed it."""
    try:
        yield
    except KVError as error:
        raise UsageError(f"{where}{error}") from None


def as_stored(key: str, entry: Entry) -> StoredEntry:
    metadata = None if entry.metadata is None else msgspec.json.decode(entry.metadata)
    try:
        value, binary = entry.value.decode(), False
    except UnicodeDecodeError:
        value, binary = base64.b64encode(entry.value).decode(), True
    return StoredEntry(key=key, value=value, base64=binary, expiration=entry.expires, metadata=metadata)

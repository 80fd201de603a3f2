import sys
from typing import Annotated

import typer

from svcctl import keyvalues, text
from svcctl.cli import namespaces
from svcctl.cli.context import Context
from svcctl.cli.namespaces import BindingOption
from svcctl.cli.options import EnvOption, OneServiceOption
from svcctl.cli.output import Verbatim, write_bytes
from svcctl.errors import NotFound, UsageError


def kv_key_get(
    context: Context,
    words: Annotated[list[str], typer.Argument(metavar="[NAMESPACE] KEY")],
    binding: BindingOption = None,
    env: EnvOption = None,
    service: OneServiceOption = None,
) -> None:
    """Print the value of a key.

    Byte for byte, without a newline of its own, where standard output is no terminal. NAMESPACE is a KV binding of the
    environment, or its label."""
    namespace, rest = namespaces.chosen(context, words, binding, env, service)
    if len(rest) != 1:
        raise UsageError("give one KEY")
    (key,) = rest
    with namespaces.checking():
        keyvalues.check_key("GET", key)
    entry = namespace.store.get(namespace.name, key, context.now.timestamp())
    if entry is None:
        raise NotFound(f"{namespace.ref}: {namespace.binding} has no key {key!r}")
    if context.json or sys.stdout.isatty():
        printable = text.clean_lines(entry.value.decode("utf-8", "backslashreplace"))
        context.show(namespaces.as_stored(key, entry), [Verbatim(printable)])
    else:
        write_bytes(sys.stdout, entry.value)

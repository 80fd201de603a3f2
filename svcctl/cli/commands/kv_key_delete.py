from typing import Annotated

import typer

from svcctl import keyvalues
from svcctl.cli import namespaces
from svcctl.cli.context import Context
from svcctl.cli.namespaces import BindingOption
from svcctl.cli.options import EnvOption, OneServiceOption
from svcctl.cli.output import Success
from svcctl.errors import UsageError


def kv_key_delete(
    context: Context,
    words: Annotated[list[str], typer.Argument(metavar="[NAMESPACE] KEY")],
    binding: BindingOption = None,
    env: EnvOption = None,
    service: OneServiceOption = None,
) -> None:
    """Delete a key.

    NAMESPACE is a KV binding of the environment, or its label. Nothing brings the value back: roll back is about code
    and settings."""
    namespace, rest = namespaces.chosen(context, words, binding, env, service)
    if len(rest) != 1:
        raise UsageError("give one KEY")
    (key,) = rest
    with namespaces.checking():
        keyvalues.check_key("DELETE", key)
    there = namespace.store.get(namespace.name, key, context.now.timestamp()) is not None
    namespace.store.delete(namespace.name, key)
    answer = {"ref": namespace.ref, "binding": namespace.binding, "key": key, "changed": there}
    said = f"{key} deleted" if there else f"has no {key}: nothing to do"
    context.show(answer, [Success(f"{namespace.ref}: {namespace.binding} {said}")])

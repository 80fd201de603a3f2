"""Vars, secrets and bindings: one table's own, and what an environment inherits.

One rule for all three, key by key: an environment has what its service has, without what `unset` names, overlaid by
what its own table says. A name means one thing in an environment: it is a var, or a secret, or a binding.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Literal, NamedTuple

from svcctl import names
from svcctl.config.positions import Path
from svcctl.config.table import Table
from svcctl.config.values import check_value
from svcctl.model import Binding, Block, Layer, Value

NameKind = Literal["var", "secret", "binding"]
BINDING = ("service", "entrypoint", "kv", "bucket", "version_metadata", "environment")
_REACHED = ("service", "kv", "bucket", "version_metadata")


_BOUND = 'a table such as { kv = "carts" }'


class Own(NamedTuple):
    """What one table says itself."""

    vars: dict[str, Value]
    secrets: dict[str, int]
    """With their index in the array."""
    bindings: dict[str, Binding]

    def names(self) -> Iterator[tuple[str, NameKind, Path]]:
        """Each name, what it is, and where, from the table on."""
        for name in self.vars:
            yield name, "var", ("vars", name)
        for name, index in self.secrets.items():
            yield name, "secret", ("secrets", index)
        for name in self.bindings:
            yield name, "binding", ("bindings", name)

    def kinds(self) -> dict[str, NameKind]:
        return {name: kind for name, kind, _ in self.names()}


NOTHING = Own({}, {}, {})


def read(table: Table, var_size: int) -> Own:
    own = Own(
        vars=_vars(table.table("vars"), var_size),
        secrets={name: index for index, name in table.texts("secrets")},
        bindings={name: _binding(inner) for name, inner in table.table("bindings").tables(_BOUND)},
    )
    met: dict[str, NameKind] = {}
    for name, kind, below in own.names():
        if wrong := names.check_variable(name):
            table.wrong(f"{name} {wrong}" if kind == "secret" else wrong, *below)
        elif name in met:
            table.wrong(f"{name} is a {met[name]} of this table too; a name means one thing", *below)
        met.setdefault(name, kind)
    return own


def read_unset(table: Table, base: Own, own: Own) -> AbstractSet[str]:
    inherited, here = base.kinds(), own.kinds()
    unset = table.texts("unset")
    for index, name in unset:
        if name not in inherited:
            table.wrong(f"the service has no var, secret or binding {name}{_near(name, inherited)}", "unset", index)
        elif here.get(name) == inherited[name]:
            table.wrong(f"{name} is set here too; leave it out of unset", "unset", index)
    return {name for _, name in unset}


def inherit(table: Table, base: Own, own: Own, unset: AbstractSet[str]) -> Block:
    """The settings of the environment whose table this is. Its identity is the caller's business."""
    inherited = {name: (kind, below) for name, kind, below in base.names() if name not in unset}
    service = table.path[:2]
    for name, kind, below in own.names():
        other, place = inherited.get(name, (kind, ()))
        if other != kind:
            table.wrong(
                f'{name} is a {other} of the service; unset = ["{name}"] takes that away here',
                *below,
                see=(*service, *place),
            )
    kept = inherited.keys()
    return Block(
        layer=Layer(
            vars={name: value for name, value in base.vars.items() if name in kept} | own.vars,
            bindings={name: value for name, value in base.bindings.items() if name in kept} | own.bindings,
        ),
        secrets=tuple(sorted((base.secrets.keys() & kept) | own.secrets.keys())),
    )


def read_optional(table: Table, base: Own) -> tuple[str, ...]:
    """Only names of the service's own tables are ever required, so only these can be optional."""
    known = base.kinds()
    optional = table.texts("optional")
    for index, name in optional:
        if name not in known:
            table.wrong(f"the service has no var, secret or binding {name}{_near(name, known)}", "optional", index)
    return tuple(sorted(name for _, name in optional))


def _near(name: str, known: dict[str, NameKind]) -> str:
    guess = names.near(name, known) if len(known) <= 500 else None  # the search compares with each, slowly
    return f"; did you mean {guess}?" if guess else ""


def _vars(table: Table, size: int) -> dict[str, Value]:
    for name, value in table.content.items():
        for below, wrong in check_value(value, size):
            table.wrong(wrong, name, *below)
    return table.content


def _binding(table: Table) -> Binding:
    table.only(BINDING, {})
    reached = [key for key in _REACHED if not table.lacks(key)]
    if len(reached) != 1:
        table.wrong(f"needs one of service, kv, bucket and version_metadata, not {' and '.join(reached) or 'none'}")
    texts = {key: table.text(key) for key in BINDING if key != "version_metadata"}
    for key, text in texts.items():
        if text and (wrong := names.check_variable(text) if key == "entrypoint" else names.check_name(text)):
            table.wrong(f"{text} {wrong}", key)
    metadata = table.flag("version_metadata")
    if reached == ["version_metadata"]:
        _check_metadata(table)
    elif "entrypoint" in table and table.lacks("service"):
        table.wrong("stands beside service alone: it names a class of the service's main file", "entrypoint")
    return Binding(**texts, version_metadata=metadata)


def _check_metadata(table: Table) -> None:
    if table.content["version_metadata"] is False:
        table.wrong("must be true; leave the binding out instead", "version_metadata")
    for key in ("entrypoint", "environment"):
        if key in table:
            table.wrong("has no meaning beside version_metadata: a handler is its own version", key)

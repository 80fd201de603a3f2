from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import typer

from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.cli.options import OptionalReferenceArgument, ServiceOption
from svcctl.cli.output import Block, Tree, Verbatim
from svcctl.errors import NotFound, UsageError
from svcctl.model import Model, Node
from svcctl.names import did_you_mean
from svcctl.reference import Reference, parse


class Graph(Model):
    """Environments by reference, and what each one's service bindings reach. `roots` are those that were asked for."""

    roots: tuple[str, ...]
    nodes: tuple[Node, ...]


def graph(
    context: Context,
    place: OptionalReferenceArgument = None,
    service: ServiceOption = None,
    format: Annotated[
        Literal["tree", "mermaid", "json"], typer.Option("--format", help="mermaid is text for a diagram.")
    ] = "tree",
) -> None:
    """Draw which service calls which.

    Each arrow is a service binding, resolved as the handlers would find it now. Without REF: the services' environments
    where `svcctl deploy` goes."""
    wanted = parse(place or target.environment(context, None))
    if wanted.at:
        raise UsageError(f"{place!r} is one version; a graph shows what runs now", next="svcctl graph")
    context.json = context.json or format == "json"
    found = _graph(context, _roots(context, wanted, service))
    context.show(found, [Verbatim(_mermaid(found))] if format == "mermaid" else _trees(found))


def _roots(context: Context, wanted: Reference, service: Sequence[str] | None) -> list[tuple[str, str]]:
    if wanted.service:
        return [(wanted.service, wanted.environment)]
    project = target.project(context).name
    services = target.stored_services(context, service)
    found = context.backend.environments(project, services, (wanted.environment,))
    if not found:
        known = {each.name for each in context.backend.environments(project, services)}
        raise NotFound(f"no environment {wanted.environment!r}", hint=did_you_mean(wanted.environment, known))
    return [(each.service, each.name) for each in found]


def _graph(context: Context, roots: Sequence[tuple[str, str]]) -> Graph:
    nodes: dict[str, Node] = {}
    for service, name in roots:
        if f"{service}/{name}" not in nodes:
            nodes |= {node.ref: node for node in context.backend.deployment(service, name).nodes}
    return Graph(roots=tuple(f"{service}/{name}" for service, name in roots), nodes=tuple(nodes.values()))


# ---- tree


def _trees(graph: Graph) -> Iterator[Block]:
    """One tree for each root that no other calls; a circle of which nobody outside calls any gets one too."""
    nodes = {node.ref: node for node in graph.nodes}
    called = {ref for node in graph.nodes for name, ref in node.bindings.items() if ref != node.ref}
    drawn: set[str] = set()
    for ref in sorted(graph.roots, key=lambda ref: ref in called):
        if ref not in drawn:
            yield _tree(_label(nodes[ref]), ref, nodes, drawn, ())


def _tree(label: str, ref: str, nodes: dict[str, Node], drawn: set[str], above: tuple[str, ...]) -> Tree:
    """What was drawn once is named, not drawn again: a tree never grows beyond its edges."""
    if ref in above:
        return Tree(f"{label} (a circle)")
    calls = nodes[ref].bindings
    if ref in drawn and calls:
        return Tree(f"{label} (drawn already)")
    drawn.add(ref)
    return Tree(
        label,
        [
            _tree(f"{name} → {_label(nodes[reached])}", reached, nodes, drawn, (*above, ref))
            for name, reached in calls.items()
        ],
    )


def _label(node: Node) -> str:
    return f"{node.ref}@{node.version}" if node.version else f"{node.ref} (no version)"


# ---- mermaid


def _mermaid(graph: Graph) -> str:
    """Ids of its own: a label may be a word of mermaid's, such as `end`."""
    ids = {node.ref: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    lines += [f'    {ids[node.ref]}["{_label(node)}"]' for node in graph.nodes]
    lines += [
        f'    {ids[node.ref]} -->|"{name}"| {ids[ref]}' for node in graph.nodes for name, ref in node.bindings.items()
    ]
    return "\n".join(lines) + "\n"

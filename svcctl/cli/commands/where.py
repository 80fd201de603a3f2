import re
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from svcctl.cli import views
from svcctl.cli.context import Context
from svcctl.cli.output import Block, Note
from svcctl.errors import NotFound
from svcctl.model import Version

_DIGITS = re.compile(r"[0-9a-f]{4,64}")


def where(
    context: Context,
    what: Annotated[
        str, typer.Argument(metavar="COMMIT|DIGEST", help="A commit, branch, tag or artifact; 4 digits are enough.")
    ],
    contains: Annotated[
        bool, typer.Option("--contains", help="Heads whose commit is this one or comes after it; asks git.")
    ] = False,
) -> None:
    """Find the environments and versions that run or ran a commit or artifact.

    Lists the versions that brought it; the marked ones run now. Looks into every project of the store."""
    heads = _heads(context)
    found: Sequence[Version]
    if contains:
        commit = _resolved(context, what)
        found, unknown = _containing(context, commit, heads)
        if not found:
            raise NotFound(f"no environment runs a commit that contains {commit[:12]}", hint=_doubt(unknown))
        live: Sequence[Version] = found
    else:
        found, unknown = _running(context, what), []
        laid = {(head.service, head.environment): head.code.since for head in heads if head.code}
        live = [each for each in found if laid.get((each.service, each.environment)) == each.number]
    refs = [version.ref for version in live]
    context.show({"versions": found, "live": refs}, _blocks(found, refs, unknown))


def _blocks(found: Sequence[Version], live: Sequence[str], unknown: Sequence[Version]) -> Iterator[Block]:
    yield from views.history(found, (), live, one=False)
    if doubt := _doubt(unknown):
        yield Note(doubt)


def _heads(context: Context) -> list[Version]:
    backend = context.backend
    return [head for project in backend.projects() for head in backend.heads(project)]


def _running(context: Context, what: str) -> Sequence[Version]:
    """By digits that the store knows, else by what the repository here calls so."""
    digits = what.lower()
    if _DIGITS.fullmatch(digits):
        backend = context.backend
        if found := backend.running(commit=digits) or backend.running(code=digits):
            return found
    commit = _commit(context, what)
    if commit is None:
        raise NotFound(
            f"no version ran {what!r}, and the repository here has no such commit",
            hint="give a commit, a branch, a tag, or the first digits of an artifact's digest",
        )
    if found := context.backend.running(commit=commit):
        return found
    raise NotFound(
        f"commit {commit[:12]} was never deployed",
        hint="it may be part of a later one that was",
        next=f"svcctl where {what} --contains",
    )


def _containing(context: Context, commit: str, heads: Sequence[Version]) -> tuple[list[Version], list[Version]]:
    """Heads that contain the commit, and those of which the repository can't know."""
    from svcctl import provenance

    deployed = {head.code.commit.sha for head in heads if head.code and head.code.commit}
    answers = {sha: provenance.is_ancestor(context.folder, commit, sha) for sha in deployed}
    asked = [(head, answers[head.code.commit.sha]) for head in heads if head.code and head.code.commit]
    return [head for head, answer in asked if answer], [head for head, answer in asked if answer is None]


def _resolved(context: Context, what: str) -> str:
    commit = _commit(context, what)
    if commit is None:
        raise NotFound(f"the repository here has no commit {what!r}", hint="git fetch may bring it")
    return commit


def _commit(context: Context, what: str) -> str | None:
    from svcctl import provenance

    return provenance.resolve_commit(context.folder, what)


def _doubt(unknown: Sequence[Version]) -> str | None:
    if not unknown:
        return None
    refs = ", ".join(head.ref for head in unknown)
    return f"the repository here lacks the commits of {refs}; they may contain it too"

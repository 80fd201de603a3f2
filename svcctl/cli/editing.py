"""Edits of services.toml by commands.

An edit is made in memory first: a file that can't be edited stops the command before anything else is changed. Where
a change in the store comes with it, the command carries the project as edited and the file is written last. Killed in
between, the same command typed again finds its change done and makes the edit that is missing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from svcctl.cli.context import Context
from svcctl.cli.output import Block, Lines, Note, Success
from svcctl.errors import NotFound, UsageError
from svcctl.model import Model, Project


class Edit:
    """services.toml as it is and as it shall be."""

    def __init__(self, path: Path, before: str, after: str) -> None:
        self.path = path
        self.changed = before != after
        self._after = after

    @cached_property
    def project(self) -> Project:
        from svcctl import config

        return config.load_text(self._after)

    def write(self) -> None:
        if self.changed:
            from svcctl.config import edit

            edit.write(self.path, self._after)


class Edited(Model):
    """The answer of a command that edited the file and left the store alone."""

    file: str
    changed: bool
    summary: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    next: str | None = None


def prepare(context: Context, change: Callable[[str], str]) -> Edit:
    """`change` is one of svcctl.config.edit: text in, text out."""
    from svcctl import config

    path = context.required_file
    before = config.read(path)
    return Edit(path, before, change(before))


def carry_out(
    context: Context,
    change: Callable[[str], str],
    sentences: Sequence[str],
    deploy: str,
    *,
    dry_run: bool,
    only_with_cli: Mapping[str, object],
) -> None:
    """An edit that the next deploy applies. `only_with_cli`: options that mean nothing here, and what was given."""
    for option, given in only_with_cli.items():
        if given:
            raise UsageError(f"{option} needs --cli: an edit of services.toml is no change in the store")
    edit = prepare(context, change)
    if not dry_run:
        edit.write()
    answer = Edited(
        file=str(edit.path),
        changed=edit.changed and not dry_run,
        summary=tuple(sentences) if edit.changed else (),
        next=deploy if edit.changed else None,
    )
    context.show(answer, _blocks(answer, dry_run=dry_run))


def removal(change: Callable[[str], str]) -> Callable[[str], str]:
    """`change` takes something out; what the file does not have may be an override."""

    def attempt(text: str) -> str:
        try:
            return change(text)
        except NotFound as error:
            known = f"{error.hint}; " if error.hint else ""
            raise NotFound(error.message, hint=f"{known}what was made with --cli goes with --cli") from error

    return attempt


def deploy_of(service: str, environment: str | None) -> str:
    """What applies an edit: no code moves, so it may go to a protected environment too."""
    env = f" --env {environment} --settings-only" if environment else ""
    return f"svcctl deploy -s {service}{env}"


def _blocks(answer: Edited, *, dry_run: bool) -> Iterator[Block]:
    if not answer.next:
        yield Success("nothing to do: services.toml says so already")
        return
    yield Success("services.toml would be edited" if dry_run else "services.toml edited")
    yield Lines([f"  {sentence}" for sentence in answer.summary])
    yield Note(f"the next deploy applies it: {answer.next}")

from pathlib import Path
from typing import Annotated

import typer

from svcctl.backend.base import Backend
from svcctl.backend.moving import FromBackend, check, move
from svcctl.cli import moving
from svcctl.cli.context import Context, located, open_at
from svcctl.cli.moving import NoKvOption, PassphraseOption
from svcctl.cli.options import DryRunOption, YesOption
from svcctl.cli.output import Note
from svcctl.errors import NotFound, UsageError
from svcctl.text import mask_urls


def backend_copy(
    context: Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="A folder, a URL, or its name (`backend add`).")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A new store, or an older copy.")],
    passphrase_file: PassphraseOption = None,
    no_kv: NoKvOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Copy a store, with its history, to another backend.

    Every change, version and artifact, KV entries and, with a passphrase, secrets. TO ends at the head of FROM: what
    `svcctl verify` prints there. It must be new, or an older copy of FROM, which is brought up. Killed anywhere, the
    same command goes on. Nothing of FROM is changed; do not go on with both."""
    if _located(context, source) == _located(context, target):
        raise UsageError("FROM and TO are the same store")
    now = context.now.timestamp()
    given = FromBackend(_source(context, source), now, kv=not no_kv)
    taking = _target(context, target, create=not dry_run)
    if taking:
        check(given, taking)
    key = moving.passphrase(context, passphrase_file, given.outline, anew=True)
    where = mask_urls(target)
    if dry_run or taking is None:
        would = moving.expected(given, taking, sealed=key is not None, kv=not no_kv)
        context.show(would, moving.told(would, given.outline, where))
        return
    if not no_kv:
        moving.agree_to_lose(context, moving.differences(given, taking, now), yes=yes)
    moved = move(given, taking, now=now, passphrase=key, kv=not no_kv, progress=context.progress)
    context.show(moved, moving.told(moved, given.outline, where))
    if (grown := given.newer()) > 0:
        context.tell(Note(f"{mask_urls(source)} has {grown} newer by now: type it again to bring them over"))


def _opened(context: Context, place: str, *, create: bool) -> Backend:
    return open_at(context, _located(context, place), create=create)


def _source(context: Context, place: str) -> Backend:
    try:
        return _opened(context, place, create=False)
    except NotFound:
        raise NotFound(f"there is no store at {mask_urls(place)}") from None


def _target(context: Context, place: str, *, create: bool) -> Backend | None:
    try:
        return _opened(context, place, create=create)
    except NotFound:
        return None


def _located(context: Context, place: str) -> str | Path:
    found = located(context, place)
    return found.resolve() if isinstance(found, Path) else found

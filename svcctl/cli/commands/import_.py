import os
import stat
import sys
from contextlib import closing
from typing import Annotated, BinaryIO

import typer

from svcctl.backend.archive import FromFile
from svcctl.backend.base import Backend
from svcctl.backend.moving import check, move
from svcctl.cli import consent, moving
from svcctl.cli.context import Context
from svcctl.cli.moving import NoKvOption, PassphraseOption
from svcctl.cli.options import DryRunOption, YesOption
from svcctl.errors import NotFound, UsageError


def import_(
    context: Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `svcctl export` wrote; - is standard input.")],
    passphrase_file: PassphraseOption = None,
    no_kv: NoKvOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Read a store from the file of an export.

    Into a new store, or into one that holds a beginning of the same history: then it goes on from there. The whole file
    is checked before any of it is stored, unless it comes through a pipe. Killed anywhere, the same command goes on."""
    if file == passphrase_file == "-":
        raise UsageError("the file and the passphrase can't both be standard input")
    now, kv = context.now.timestamp(), not no_kv
    with closing(_opened(context, file)) as stream:
        if stream.seekable():
            context.progress.start(f"checking {file}", stream.seek(0, os.SEEK_END))
            stream.seek(0)
        given = FromFile(moving.Watched(stream, context.progress), now)
        target = _target(context)
        if target:
            check(given, target)
        key = moving.passphrase(context, passphrase_file, given.outline, anew=False)
        if stream.seekable():
            found = moving.survey(given, target, key, now, kv=kv)
            context.progress.done()
            stream.seek(0)
            given = FromFile(stream, now)
        if dry_run:
            would = moving.expected(given, target, sealed=key is not None, kv=kv)
            context.show(would, moving.told(would, given.outline, "the store"))
            return
        if stream.seekable():
            moving.agree_to_lose(context, found, yes=yes)
        elif target and kv and given.outline.namespaces and moving.has_entries(target, now):
            consent.require_yes(context, "replace or remove KV entries of the target where they differ", yes=yes)
        moved = move(given, context.new_backend(), now=now, passphrase=key, kv=kv, progress=context.progress)
        given.end()
        context.show(moved, moving.told(moved, given.outline, "the store"))


def _target(context: Context) -> Backend | None:
    """None where there is none yet: nothing is made before the file is known to be whole."""
    try:
        return context.backend
    except NotFound:
        return None


def _opened(context: Context, file: str) -> BinaryIO:
    if file == "-":
        if sys.stdin.isatty():
            raise UsageError(
                "an export does not come from a terminal", hint="name a file, or pipe it: … | svcctl import -"
            )
        return sys.stdin.buffer
    path = context.path(file)
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise UsageError(f"{file} is a folder", next=f"svcctl backend copy {file} FOLDER")
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None

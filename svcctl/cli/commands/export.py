import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from svcctl import ages, faults
from svcctl.backend import archive
from svcctl.backend.archive import FromFile, Written
from svcctl.backend.base import Backend
from svcctl.backend.moving import FromBackend
from svcctl.backend.segment import Valueless
from svcctl.cli import moving, views
from svcctl.cli.context import Context
from svcctl.cli.moving import NoKvOption, PassphraseOption
from svcctl.cli.options import DryRunOption
from svcctl.cli.output import Block, Fields, Lines, Note, Success
from svcctl.errors import Refused, SvcctlError, UsageError
from svcctl.model import Model


class Exported(Model):
    file: str
    store: str
    head: str
    """`svcctl verify` prints it here, and where the file is imported."""
    changes: int
    artifacts: int
    bytes: int
    secrets: int
    left_out: int
    """Secrets that have a value here and are not in the file."""
    missing: tuple[Valueless, ...]
    """Secrets that had no value here."""
    namespaces: int | None
    entries: int
    dry_run: bool = False


def export(
    context: Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; - is standard output.")],
    passphrase_file: PassphraseOption = None,
    no_kv: NoKvOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write the whole store into one file.

    Every change, version and artifact, KV entries and, with a passphrase, secrets: for `svcctl import`. The file
    appears when it is whole. An export of the same store's earlier history is replaced; anything else is left alone."""
    backend = context.backend
    given = FromBackend(backend, context.now.timestamp(), kv=not no_kv)
    if file == "-":
        if context.json:
            raise UsageError("--json and the file can't both go to standard output")
        if sys.stdout.isatty() and not dry_run:
            raise UsageError("an export is not for a terminal", hint="name a file, or pipe it: svcctl export - | …")
    else:
        _check_place(context.path(file), file, backend, context.now.timestamp())
    key = moving.passphrase(context, passphrase_file, given.outline, anew=True)
    if dry_run:
        outline = given.outline
        would = moving.expected(given, None, sealed=key is not None, kv=not no_kv)
        words = [f"{file} would hold the store to c{would.changes}"]
        context.show(would, [Lines(words + [f"  {line}" for line in moving.what(would, outline)])])
        return
    at = ages.timestamp(context.now)
    if file == "-":
        written = archive.write(given, sys.stdout.buffer.write, at, key, context.progress)
        sys.stdout.buffer.flush()
    else:
        with _appearing(context.path(file), file) as stream:
            written = archive.write(given, stream.write, at, key, context.progress)
    done = _exported(file, written, given, backend)
    if file == "-":
        context.tell(*_blocks(done))
    else:
        context.show(done, _blocks(done))


def _exported(file: str, written: Written, given: FromBackend, backend: Backend) -> Exported:
    header = written.header
    return Exported(
        file=file,
        store=header.standing.store,
        head=header.standing.head,
        changes=written.changes,
        artifacts=written.artifacts,
        bytes=written.bytes,
        secrets=header.secrets if header.sealed else 0,
        left_out=0 if header.sealed else given.outline.secrets,
        missing=backend.valueless(),
        namespaces=header.namespaces,
        entries=written.entries,
    )


def _blocks(done: Exported) -> Iterator[Block]:
    counts = [views.counted(done.changes, "change"), views.counted(done.artifacts, "artifact")]
    counts.append(views.counted(done.secrets, "secret"))
    if done.namespaces is not None:
        counts.append(f"{done.entries:,} KV {'entry' if done.entries == 1 else 'entries'}")
    yield Success(f"{done.file} holds {', '.join(counts)} ({done.bytes:,} bytes)")
    yield Fields([("store", done.store), ("head", done.head)])
    if done.left_out:
        yield Note(f"{views.counted(done.left_out, 'secret')} left out: --passphrase-file takes them along, sealed")
    if done.missing:
        names = ", ".join(f"{each.name} of {each.ref}" for each in done.missing)
        yield Note(f"without a value in this store: {names}")


# ---- the file


def _check_place(path: Path, file: str, backend: Backend, now: float) -> None:
    """What is there is replaced only by more of the same history."""
    try:
        regular = stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return
    same = False
    if regular:
        with suppress(SvcctlError, OSError), path.open("rb") as stream:
            known = FromFile(stream, now).outline.standing
            same = backend.standing(known.number) == known
    if not same:
        raise Refused(
            f"{file} is there already, and is no export of this store's earlier history",
            hint="nothing was written; name another file, or remove that one",
        )


@contextmanager
def _appearing(path: Path, file: str) -> Iterator[BinaryIO]:
    """Written beside its place, for its owner alone; durable, then named. A kill leaves at most the `.part`, which the
    next export writes over."""
    part = path.with_name(path.name + ".part")
    try:
        with os.fdopen(_opened(part), "wb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"another export writes {file} at this moment", hint="nothing was written") from None
            stream.truncate()
            try:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            faults.point("export.written")
            part.replace(path)
            faults.point("export.named")
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refused(f"{file} could not be written: {error.strerror}", hint="is there room on the disk?") from error


def _opened(part: Path) -> int:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor

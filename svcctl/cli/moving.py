"""What `backend copy`, `export` and `import` share: the passphrase, the question, and how it is told."""

from collections.abc import Iterable, Iterator
from typing import Annotated, BinaryIO

import typer

from svcctl.backend.archive import FromFile
from svcctl.backend.base import Backend
from svcctl.backend.moving import Differences, Moved, Outline, Source, check, compare
from svcctl.backend.segment import Standing, Valueless, number_of
from svcctl.cli import consent, views
from svcctl.cli.context import Context
from svcctl.cli.output import Block, Fields, Lines, Note, Success
from svcctl.errors import ConsentNeeded, UsageError
from svcctl.progress import Progress
from svcctl.sealing import SecretValue

PassphraseOption = Annotated[
    str | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Take secrets along, under the passphrase in this file; - is standard input. Else they are left out.",
    ),
]
NoKvOption = Annotated[bool, typer.Option("--no-kv", help="Leave KV entries out.")]
_LONGEST = 4096


def passphrase(context: Context, file: str | None, outline: Outline, *, anew: bool) -> SecretValue | None:
    """From the file, or on a terminal from whoever types; None leaves secrets out. `anew` asks twice."""
    if file is not None:
        return _read(context, file)
    if not outline.sealed or not outline.secrets or not consent.can_ask(context):
        return None
    values = views.counted(outline.secrets, "secret")
    typed = consent.ask_secret(context, f"passphrase for {values} (empty: leave them out)")
    if typed and anew and consent.ask_secret(context, "the same again") != typed:
        raise ConsentNeeded("the two differ; nothing was changed")
    return SecretValue(typed) if typed else None


def _read(context: Context, file: str) -> SecretValue:
    """Its first line."""
    content = context.read(file, _LONGEST)
    found = content.partition(b"\n")[0].removesuffix(b"\r")
    if not found:
        raise UsageError(f"{file}: the passphrase is its first line, which is empty")
    return SecretValue(found)


def expected(source: Source, target: Backend | None, *, sealed: bool, kv: bool) -> Moved:
    """What a move would do, as far as it can be told before. Raises Conflict where it can't be."""
    outline = source.outline
    before = check(source, target) if target else None
    return Moved(
        store=outline.standing.store,
        before=before.head if before else empty(outline.standing).head,
        head=outline.standing.head,
        changes=outline.standing.number - (before.number if before else 0),
        secrets=outline.secrets if sealed and outline.sealed else 0,
        namespaces=outline.namespaces if kv else None,
        dry_run=True,
    )


def empty(standing: Standing) -> Standing:
    """Where a store begins."""
    from hashlib import sha256

    from svcctl import digest
    from svcctl.backend.segment import Head

    return Standing(store=standing.store, head=Head(f"0:{digest.of('head', sha256().digest())}"))


def differences(source: Source, target: Backend, now: float) -> Differences:
    """Of KV entries. Reads both sides where the target has any."""
    found = Differences()
    for name, given in source.namespaces():
        if target.keyvalues.list(name, "", 1, None, now).keys:
            found += compare(target.keyvalues, name, given, now)
    return found


def survey(given: FromFile, target: Backend | None, key: SecretValue | None, now: float, *, kv: bool) -> Differences:
    """Reads a whole file: its sums, whether the passphrase is its own, and what its KV entries would do."""
    if key is not None and given.outline.sealed:
        given.secrets(key)
    found = differences(given, target, now) if target and kv else Differences()
    given.end()
    return found


class Watched:
    """A stream whose reader is told how far it is."""

    def __init__(self, stream: BinaryIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress

    def read(self, size: int, /) -> bytes:
        part = self._stream.read(size)
        self._progress.advance(len(part))
        return part


def has_entries(target: Backend, now: float) -> bool:
    return any(target.keyvalues.list(name, "", 1, None, now).keys for name in target.keyvalues.namespaces())


def agree_to_lose(context: Context, found: Differences, *, yes: bool) -> None:
    """No history brings KV entries back."""
    if lost := found.replaced + found.removed:
        word = "entry" if lost == 1 else "entries"
        consent.require_yes(context, f"replace or remove {lost:,} KV {word} of the target", yes=yes)


# ---- how it is told


def told(moved: Moved, outline: Outline, where: str) -> Iterator[Block]:
    if moved.dry_run:
        yield from _would(moved, outline, where)
        return
    entries = moved.entries
    if not moved.changes and not moved.secrets and entries == Differences():
        yield Success(f"nothing to do: {where} is at c{number_of(moved.head)} already")
    else:
        yield Success(f"{where} is at c{number_of(moved.head)}: {', '.join(_parts(moved))}")
    yield Fields([("store", moved.store), ("head", moved.head)])
    yield from left_out(moved.missing)


def _parts(moved: Moved) -> Iterator[str]:
    yield f"{views.counted(moved.changes, 'change')} moved"
    yield views.counted(moved.artifacts or 0, "artifact")
    yield views.counted(moved.secrets, "secret")
    if moved.namespaces is not None:
        entries = moved.entries
        yield f"KV: {entries.added} added, {entries.replaced} replaced, {entries.removed} removed"


def _would(moved: Moved, outline: Outline, where: str) -> Iterator[Block]:
    yield Lines([f"{where} would go from c{number_of(moved.before)} to c{number_of(moved.head)}"])
    yield Lines([f"  {line}" for line in what(moved, outline)])


def what(moved: Moved, outline: Outline) -> Iterable[str]:
    yield f"{views.counted(moved.changes, 'change')}, with the artifacts of their versions"
    if moved.secrets:
        yield f"{views.counted(moved.secrets, 'secret')}, sealed"
    elif outline.secrets:
        yield f"without {views.counted(outline.secrets, 'secret')}: they need a passphrase"
    if moved.namespaces is None:
        yield "without KV entries"
    else:
        yield f"the entries of {views.counted(moved.namespaces, 'KV namespace')}"


def left_out(missing: Iterable[Valueless]) -> Iterator[Block]:
    listed = list(missing)
    if not listed:
        return
    count = views.counted(len(listed), "secret")
    yield Note(f"{count} without a value there; what needs one is not live until it is set:")
    lines = []
    for each in listed:
        service, _, environment = each.ref.partition("/")
        lines.append(f"  svcctl secrets set {each.name} -s {service} --env {environment}")
    yield Lines(lines)

from collections.abc import Iterator
from typing import TYPE_CHECKING

from svcctl.cli import consent, views
from svcctl.cli.context import Context
from svcctl.cli.options import DryRunOption, YesOption
from svcctl.cli.output import Block, Lines, Success

if TYPE_CHECKING:
    from svcctl.backend.store.gc import Swept


def gc(context: Context, dry_run: DryRunOption = False, yes: YesOption = False) -> None:
    """Remove stored bytes that nothing needs.

    That is: artifacts that no version names and that were uploaded more than a day ago, what killed commands left
    behind, and the KV entries of environments that were deleted more than a day ago. Bytes that any version needs stay,
    however old it is."""
    would = context.store.gc(dry_run=True, progress=context.progress)
    if dry_run or _is_nothing(would):
        context.show(would, _blocks(would))
        return
    if not yes:
        context.tell(*_blocks(would))
    consent.require_yes(context, "remove this from the store", yes=yes)
    done = context.store.gc(dry_run=False, progress=context.progress)
    context.show(done, _blocks(done))


def _is_nothing(swept: "Swept") -> bool:
    return not (swept.artifacts or swept.blobs or swept.leftovers or swept.namespaces)


def _blocks(swept: "Swept") -> Iterator[Block]:
    if _is_nothing(swept):
        yield Success("nothing to remove")
        return
    counts = [
        views.counted(count, noun)
        for count, noun in (
            (swept.artifacts, "artifact"),
            (swept.blobs, "blob"),
            (len(swept.leftovers), "leftover file"),
            (len(swept.namespaces), "KV namespace"),
        )
        if count
    ]
    yield Success(
        f"{'would remove' if swept.dry_run else 'removed'} {', '.join(counts)} ({_size(swept.bytes)} of blobs)"
    )
    yield Lines([f"  {name}" for name in (*swept.leftovers, *swept.namespaces)])


def _size(count: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count} {unit}"
        count //= 1000
    return f"{count} GB"

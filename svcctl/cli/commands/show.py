from collections.abc import Iterator
from typing import Annotated

import typer

from svcctl import wire
from svcctl.cli import effective, target, views
from svcctl.cli.context import Context
from svcctl.cli.effective import Setting
from svcctl.cli.options import ReferenceArgument, ServiceOption
from svcctl.cli.output import Block, Cell, Column, Content, Fields, Table
from svcctl.model import File, Manifest, Version


def show(
    context: Context,
    ref: ReferenceArgument,
    service: ServiceOption = None,
    files: Annotated[bool, typer.Option("--files", help="List the files of its code.")] = False,
) -> None:
    """Show one version.

    Its code, its settings in effect (of secrets the names), who made it and how."""
    version = context.backend.version(target.one(context, ref, service))
    settings = effective.of_version(context.backend.settings(version.settings.digest))
    manifest = context.backend.manifest(version.code.digest) if version.code else None
    context.show(_answer(version, settings, manifest, files=files), _blocks(version, settings, manifest, files=files))


def _answer(
    version: Version, settings: tuple[Setting, ...], manifest: Manifest | None, *, files: bool
) -> dict[str, object]:
    artifact: dict[str, object] | None = None
    if manifest:
        artifact = {"main": manifest.main, "files": len(manifest.files), "bytes": _size(manifest)}
        artifact |= {"python": manifest.python, "platform": manifest.platform}
        artifact |= {"list": manifest.files} if files else {}
    document: dict[str, object] = wire.full(version)
    return document | {"effective": settings, "artifact": artifact}


def _blocks(
    version: Version, settings: tuple[Setting, ...], manifest: Manifest | None, *, files: bool
) -> Iterator[Block]:
    yield from views.version(version)
    if manifest:
        count = len(manifest.files)
        yield Fields([("main", manifest.main), ("files", f"{count} ({_size(manifest):,} bytes)")])
    if settings:
        yield effective.table(settings, None)
    if manifest and files:
        yield Table(["file", Column("bytes", right=True), "mode", "blob"], [_file(each) for each in manifest.files])


def _file(each: File) -> list[Content]:
    return [each.path, each.size, "executable" if each.executable else "", Cell(each.blob, "dim")]


def _size(manifest: Manifest) -> int:
    return sum(each.size for each in manifest.files)

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from svcctl import digest
from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.options import ReferenceArgument, ServiceOption
from svcctl.cli.output import Block, Success
from svcctl.errors import Refused
from svcctl.model import Manifest, Version


def artifact_get(
    context: Context,
    version: ReferenceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    service: ServiceOption = None,
) -> None:
    """Write the exact files of a version into a folder.

    Every byte is checked against the artifact's digest; damage leaves nothing behind."""
    found = context.backend.version(target.one(context, version, service))
    if found.code is None:
        raise Refused(
            f"{found.ref} has settings and no code", next=f"svcctl history {found.service}/{found.environment}"
        )
    from svcctl.bundle.unpack import unpack

    place = context.path(folder)
    manifest = context.backend.manifest(found.code.digest)
    unpack(manifest, context.backend.opening(manifest), place, context.progress)
    answer = {"ref": found.ref, "digest": found.code.digest, "folder": str(place), "files": manifest.files}
    context.show(answer, _done(found, manifest, place))


def _done(version: Version, manifest: Manifest, place: Path) -> Iterator[Block]:
    code = digest.short(version.code.digest if version.code else "")
    yield Success(f"{version.ref}: {views.counted(len(manifest.files), 'file')} of artifact {code} in {place}")

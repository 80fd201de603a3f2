"""A manifest that came from elsewhere, before anything is made of it."""

import re
from collections.abc import Iterable

import msgspec

from svcctl import wire
from svcctl.bundle.paths import check_path, refuse_twins
from svcctl.errors import Refused, UsageError
from svcctl.model import File, Manifest
from svcctl.text import clean

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST = 4096


def manifest_of(content: bytes) -> Manifest:
    """Raises UsageError where they are not the canonical bytes of a manifest that could be unpacked."""
    try:
        manifest = wire.decode(content, Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"the manifest is none: {error}") from error
    if wire.canonical(manifest) != content:
        raise UsageError("the manifest is not in its canonical form", hint="it may come from another version of svcctl")
    check(manifest, manifest.files)
    return manifest


def check(manifest: Manifest, files: Iterable[File]) -> None:
    """Of a manifest whose other files were checked before. Raises UsageError where it could not be unpacked."""
    if wrong := _wrong(manifest, files):
        raise UsageError(f"the manifest can't be: {wrong}")


def _wrong(manifest: Manifest, files: Iterable[File]) -> str | None:
    paths = [file.path for file in manifest.files]
    if paths != sorted(set(paths)):
        return "its files are not in order, or one is there twice"
    for file in files:
        if wrong := check_path(file.path, _LONGEST):
            return f"{clean(file.path)!r} {wrong}"
        if not _DIGEST.fullmatch(file.blob) or file.size < 0:
            return f"{clean(file.path)!r} has no blob that could be"
    if manifest.main.partition(":")[0] not in paths:
        return f"its main file {clean(manifest.main)!r} is none of its files"
    try:
        refuse_twins(paths)
    except Refused as error:
        return error.message
    return None

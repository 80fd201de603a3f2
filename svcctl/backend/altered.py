"""An artifact told by its difference from another: of ten thousand files, those that are not the same."""

from msgspec.structs import replace

from svcctl.digest import Digest
from svcctl.model import Manifest, Model


class Altered(Model):
    base: Digest
    manifest: Manifest
    """Of its files, those that `base` has not, or has otherwise."""
    gone: tuple[str, ...] = ()
    """Paths that `base` has alone."""


def altered(name: Digest, base: Manifest, manifest: Manifest) -> Altered:
    known = {file.path: file for file in base.files}
    fresh = tuple(file for file in manifest.files if known.pop(file.path, None) != file)
    return Altered(base=name, manifest=replace(manifest, files=fresh), gone=tuple(known))


def whole(base: Manifest, told: Altered) -> Manifest:
    files = {file.path: file for file in base.files}
    for path in told.gone:
        files.pop(path, None)
    files.update((file.path, file) for file in told.manifest.files)
    return replace(told.manifest, files=tuple(files[path] for path in sorted(files)))

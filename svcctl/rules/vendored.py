"""Which services can share a process: those whose installed requirements agree."""

import re
from collections.abc import Iterator, Mapping

from svcctl.model import Manifest
from svcctl.text import clean

_RECORD = re.compile(r"python_modules/(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/METADATA")
_IMPORT_BY_NAME = {"django": "Django"}
"""Frameworks that are told names of the service's modules, and import them without saying for whom."""


def conflicts(manifests: Mapping[str, Manifest]) -> list[str]:
    """Sentences that say why these, by place (`shop/production`), can't run in one process. None if they can."""
    found = []
    seen: dict[str, tuple[str, str]] = {}
    for place, manifest in manifests.items():
        for name, version in requirements(manifest):
            if name in _IMPORT_BY_NAME and len(manifests) > 1:
                others = ", ".join(other for other in manifests if other != place)
                found.append(
                    f"{place} has {_IMPORT_BY_NAME[name]}, which imports the service's modules by their names: "
                    f"it can't share a process with {others}"
                )
            first, has = seen.setdefault(name, (place, version))
            if has != version:
                found.append(f"{first} has {clean(name)} {clean(has)}, and {place} has {clean(version)}")
    return found


def requirements(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Normalised name and version of each installed distribution."""
    for file in manifest.files:
        if match := _RECORD.fullmatch(file.path):
            yield re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"]

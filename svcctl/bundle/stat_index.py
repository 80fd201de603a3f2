"""What was hashed before, by what `stat` said then: the second bundle of an unchanged tree reads no file.

A file changed twice within one tick of the clock has the same times before and after the second change. git's rule
against it: an entry whose file is not older than the index is not trusted. Here the instant is taken from the file
system before the first byte is read, and an entry whose file is not older than that is not even stored.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

from svcctl.bundle.place import Identity, Place, hash_file
from svcctl.digest import Digest
from svcctl.errors import Refused
from svcctl.progress import Progress

_FORMAT = 1


class _Stored(msgspec.Struct, array_like=True):
    format: int
    entries: dict[str, tuple[Identity, str]]


class StatIndex:
    """The index of one service, a file of the folder `cache`; damage to it costs time, nothing else."""

    def __init__(self, cache: Path, main: Path) -> None:
        self._file = cache / f"{hashlib.sha256(os.fsencode(main)).hexdigest()[:32]}.index"
        self._entries = self._read()

    def blobs(self, places: Mapping[str, Place], progress: Progress) -> dict[str, Digest]:
        """The blob of each artifact path. Hashes what is not known and writes the index anew if anything differed."""
        entries = self._entries
        known = {
            path: entry[1]
            for path, place in places.items()
            if (entry := entries.get(path)) and entry[0] == place.identity
        }
        unknown = {path: place for path, place in places.items() if path not in known}
        if not unknown:
            return {path: Digest(blob) for path, blob in known.items()}
        with _Replacement(self._file) as replacement:
            progress.start("hashing", sum(place.size for place in unknown.values()))
            try:
                hashed = {path: hash_file(place, progress) for path, place in sorted(unknown.items())}
            finally:
                progress.done()
            blobs = {path: Digest(known[path]) if path in known else hashed[path] for path in places}
            replacement.write(_encoded(places, blobs, replacement.instant))
        return blobs

    def _read(self) -> dict[str, tuple[Identity, str]]:
        try:
            stored = msgspec.msgpack.decode(self._file.read_bytes(), type=_Stored)
        except (OSError, msgspec.MsgspecError):
            return {}
        return stored.entries if stored.format == _FORMAT else {}


def _encoded(places: Mapping[str, Place], blobs: Mapping[str, Digest], instant: int) -> bytes:
    older = {path: (place.identity, str(blobs[path])) for path, place in places.items() if _older(place, instant)}
    return msgspec.msgpack.encode(_Stored(_FORMAT, older))


def _older(place: Place, instant: int) -> bool:
    _, _, _, modified, changed, _ = place.identity
    return modified < instant and changed < instant


class _Replacement:
    """A file beside the one it will replace. `instant` is the file system's time when it was made."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._new = file.with_suffix(f".{os.getpid()}.new")

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from error
        self.instant = os.fstat(self._descriptor).st_mtime_ns
        return self

    def write(self, content: bytes) -> None:
        try:
            with open(self._descriptor, "wb", closefd=False) as stream:
                stream.write(content)
            self._new.replace(self._file)
        except OSError as error:
            raise self._failed(error) from error

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._new.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> Refused:
        return Refused(
            f"{self._file.parent} can't be written: {error.strerror}", hint="it holds what makes deploys quick"
        )

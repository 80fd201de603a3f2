"""Blobs on their way in: hashed as they arrive, and handed on when all of it is there and right.

A connection that breaks within a blob goes on where it broke: a blob's name says that the rest is the rest.
"""

import hashlib
import io
import tempfile
from collections import Counter
from typing import IO

from svcctl import digest, wire
from svcctl.backend.base import Stream
from svcctl.backend.messages import frames
from svcctl.backend.remote.session import Session
from svcctl.digest import Digest
from svcctl.errors import Damage, Unreachable, UsageError
from svcctl.model import Manifest

_IN_MEMORY = 8_000_000
_CHUNK = 262_144
_SMALL = 1_000_000
_TOGETHER, _MOST = 3_000_000, 2_000
"""Bytes and blobs of one answer: less than the API gives."""


def blob(session: Session, name: Digest) -> Stream:
    """Raises NotFound, or Damage where the bytes do not match the name."""
    target: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # it is what is returned
    try:
        arriving = _Arriving(session, name, target)
        session.trying(arriving.go_on)
        arriving.check()
        target.seek(0)
    except BaseException:
        target.close()
        raise
    return target


class Ahead:
    """Opens the files of one artifact in their order. Small ones come many at once: asked for one by one, ten thousand
    would take ten thousand round trips."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        self._session = session
        self._sizes = {file.blob: file.size for file in manifest.files}
        self._left = Counter(file.blob for file in manifest.files)
        self._order = list(self._sizes)
        self._places = {blob: place for place, blob in enumerate(self._order)}
        self._held: dict[Digest, bytes] = {}

    def __call__(self, name: Digest) -> Stream:
        if self._sizes.get(name, _SMALL) >= _SMALL:
            return blob(self._session, name)
        if name not in self._held and self._left[name] > 0:
            self._fetch(self._places[name])
        self._left[name] -= 1
        found = self._held.get(name) if self._left[name] > 0 else self._held.pop(name, None)
        return blob(self._session, name) if found is None else io.BytesIO(found)

    def _fetch(self, place: int) -> None:
        wanted, size = [], 0
        for name in self._order[place:]:
            if self._sizes[name] < _SMALL and self._left[name] > 0 and name not in self._held:
                wanted.append(name)
                size += self._sizes[name]
            if size > _TOGETHER or len(wanted) == _MOST:
                break
        content = self._session.content("POST", "/v1/blobs/several", body=wire.canonical(wanted))
        try:
            arrived = {name: stream.read() for name, _, stream in frames(io.BytesIO(content))}
        except UsageError as error:
            raise Unreachable(f"{self._session.url} gave an answer that can't be understood") from error
        for name, part in arrived.items():
            if digest.of_blob(part) != name:
                raise _other_bytes(self._session, name)
        self._held |= arrived


class _Arriving:
    def __init__(self, session: Session, name: Digest, target: IO[bytes]) -> None:
        self._hasher = hashlib.sha256()
        self._session = session
        self._name = name
        self._target = target
        self._size = 0

    def go_on(self) -> None:
        headers = {"accept-encoding": "identity"}
        if self._size:
            headers["range"] = f"bytes={self._size}-"
        with self._session.answering("GET", f"/v1/blobs/{self._name}", headers=headers) as response:
            if self._size and response.status_code != 206:
                self._begin_again()
            for part in response.iter_bytes(_CHUNK):
                self._hasher.update(part)
                self._target.write(part)
                self._size += len(part)

    def check(self) -> None:
        if self._hasher.hexdigest() != self._name:
            raise _other_bytes(self._session, self._name)

    def _begin_again(self) -> None:
        """It does not know ranges."""
        self._hasher = hashlib.sha256()
        self._target.seek(0)
        self._target.truncate()
        self._size = 0


def _other_bytes(session: Session, name: Digest) -> Damage:
    return Damage(
        f"blob {digest.short(name)} came from {session.url} with other bytes",
        hint="nothing of it was used; on the API's machine, svcctl verify tells what is damaged",
    )

"""Blobs on their way in: hashed as they arrive, and handed on when all of it is there and right.

A connection that breaks within a blob goes on where it broke: a blob's name says that the rest is the rest.
"""

import hashlib
import tempfile
from typing import IO

from svcctl import digest
from svcctl.backend.base import Stream
from svcctl.backend.remote.session import Session
from svcctl.digest import Digest
from svcctl.errors import Damage

_IN_MEMORY = 8_000_000
_CHUNK = 262_144


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
            raise Damage(
                f"blob {digest.short(self._name)} came from {self._session.url} with other bytes",
                hint="nothing of it was used; on the API's machine, svcctl verify tells what is damaged",
            )

    def _begin_again(self) -> None:
        """It does not know ranges."""
        self._hasher = hashlib.sha256()
        self._target.seek(0)
        self._target.truncate()
        self._size = 0

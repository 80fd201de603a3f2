"""Blobs read one behind the other, as a file."""

from collections.abc import Callable, Iterable

from svcctl.backend.base import Stream
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound


class Joined:
    """A Stream. Each is opened when it is its turn."""

    name = "what its parts make"

    def __init__(self, open: Callable[[Digest], Stream], parts: Iterable[Digest]) -> None:
        self.lost: Digest | None = None
        """The part that could not be read."""
        self._open = open
        self._parts = iter(parts)
        self._current: Stream | None = None

    def read(self, size: int = -1) -> bytes:
        while True:
            if self._current is not None and (part := self._current.read(size)):
                return part
            self.close()
            following = next(self._parts, None)
            if following is None:
                return b""
            self._current = self._opened(following)

    def _opened(self, part: Digest) -> Stream:
        try:
            return self._open(part)
        except (Damage, NotFound):
            self.lost = part
            raise

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None

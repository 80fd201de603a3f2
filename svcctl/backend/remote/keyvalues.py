"""KV over the API, for handlers on other machines.

A handler waits for it, so it is given up quickly: `_GONE` seconds without an answer, and the handler gets a 503. A
write is sent once: what broke may have been done, and doing it again later could undo another writer's. Time is the
API's: a node whose clock is wrong reads what all others read.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from svcctl import wire
from svcctl.backend.messages import KVCopied, KVCopy, KVEntry, KVGot, KVPage
from svcctl.backend.remote.session import Patience, Session
from svcctl.errors import UsageError
from svcctl.keyvalues import VALUE_SIZE, Entry, Key, KVError, Larger, Page

_GONE = 1.0
_SMALL = 500_000
"""Bytes of a value that is asked for as if it were short; what is longer is asked for again, and waited for."""
_RATE = 4_000_000
"""Bytes for which a second more is given."""


class RemoteKeyValues:
    """KeyValues. May be used by several threads."""

    near = False

    def __init__(self, session: Session) -> None:
        self._session = session.with_patience(Patience(connect=_GONE, pauses=(0.05,), longest=_GONE / 2))

    def get(self, namespace: str, key: str, now: float | None = None, *, most: int | None = None) -> Entry | None:  # noqa: ARG002  # the API's clock counts
        if most is not None:
            return self._get(namespace, key, most)
        try:
            return self._get(namespace, key, _SMALL)
        except Larger:
            return self._get(namespace, key, VALUE_SIZE)

    def _get(self, namespace: str, key: str, most: int) -> Entry | None:
        seconds = _GONE + most / _RATE
        found: KVGot = self._ask(KVGot, "GET", namespace, "entry", query={"key": key, "most": most}, timeout=seconds)
        if found.larger:
            raise Larger
        if found.entry is None:
            return None
        return Entry(found.entry.value, found.entry.metadata, found.entry.expires)

    def put(self, namespace: str, key: str, value: bytes, metadata: str | None, expires: int | None) -> None:
        self.put_all(namespace, [(key, Entry(value, metadata, expires))])

    def put_all(self, namespace: str, entries: Sequence[tuple[str, Entry]]) -> None:
        body = wire.canonical(
            [KVEntry(key=key, value=e.value, metadata=e.metadata, expires=e.expires, ttl=e.ttl) for key, e in entries]
        )
        self._ask(None, "PUT", namespace, "entries", body=body, timeout=_GONE + len(body) / _RATE)

    def delete(self, namespace: str, key: str) -> None:
        self._ask(None, "DELETE", namespace, "entry", query={"key": key})

    def list(self, namespace: str, prefix: str, limit: int, cursor: str | None, now: float | None = None) -> Page:  # noqa: ARG002
        query = {"prefix": prefix, "limit": limit, "cursor": cursor}
        found: KVPage = self._ask(KVPage, "GET", namespace, "keys", query=query)
        return Page(tuple(Key(key.name, key.expires, key.metadata) for key in found.keys), found.cursor)

    def namespaces(self) -> tuple[str, ...]:
        return self._session.ask(tuple[str, ...], "GET", "/v1/kv")

    def copy(self, source: str, target: str) -> int | None:
        """It takes as long as there are entries; done once, it may be asked for again."""
        body = wire.canonical(KVCopy(source=source))
        found: KVCopied = self._ask(KVCopied, "POST", target, "copy", body=body, timeout=600.0)
        return found.count

    def close(self) -> None:
        self._session.close()

    def _ask(
        self,
        kind: Any,
        method: str,
        namespace: str,
        what: str,
        *,
        query: dict[str, Any] | None = None,
        body: bytes | None = None,
        timeout: float = _GONE,
    ) -> Any:
        path = f"/v1/kv/{quote(namespace, safe='')}/{what}"
        try:
            return self._session.ask(kind, method, path, query=query, body=body, again=method == "GET", timeout=timeout)
        except UsageError as error:
            raise KVError(error.http_status, error.message) from error

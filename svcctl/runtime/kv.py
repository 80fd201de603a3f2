"""`env.CARTS`: a KV namespace as handlers see it, with the API and the error texts of Cloudflare's.

Names may be Cloudflare's (`expirationTtl`) or Python's (`expiration_ttl`), options keywords or one dict.

A small value of a store that is near is read at once, on the event loop: that takes ten microseconds, and a thread
would take fifty more.
Everything that may take longer runs in threads of KV's own: what opens the store, values over 64 KB, lists, and all
writes, which wait for the disk and for other writers. What is put while a write is under way is written together by
the next one: each put costs its share of one wait for the disk.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

from svcctl import keyvalues
from svcctl.errors import Damage, Refused, SvcctlError
from svcctl.keyvalues import Entry, KeyValues, KVError, KVTypeError, Larger, Operation, Page, failed
from svcctl.names import near
from svcctl.runtime.invocation import current
from svcctl.runtime.limits import TooManySubrequests, Unavailable
from svcctl.runtime.workers.blob import Blob
from svcctl.runtime.workers.stream import Chunk, ReadableStream

T = TypeVar("T")
AT_ONCE = 65_536
"""Bytes of a value that is read on the event loop."""
_THREADS = 4  # a store has one writer at a time: who waits in a queue waits for nothing else
_TOGETHER = 500  # puts in one write
_SIZE = 8_000_000
_TYPES = ("text", "json", "arrayBuffer", "bytes", "stream")
_GET_OPTIONS = ("type", "cacheTtl", "cache_ttl")
_PUT_OPTIONS = ("expirationTtl", "expiration_ttl", "expiration", "metadata")
_LIST_OPTIONS = ("prefix", "limit", "cursor")


class KVUnavailable(KVError, Unavailable):
    """The store can't be reached, or is full, locked or damaged. Nothing was changed. Clients may be shown the text, so
    it names no path: what happened is for the cause to say."""

    def __init__(self, operation: Operation, cause: SvcctlError) -> None:
        what = "is damaged" if isinstance(cause, Damage) else "is busy or can't be reached"
        what = "can't be written" if isinstance(cause, Refused) else what
        super().__init__(503, f"KV {operation} failed: 503 the store {what}")
        self.__cause__: SvcctlError = cause


class _Found(dict[str, Any]):
    """Items that are also attributes: the ones that it may have read as None where it has not."""

    __slots__ = ()
    _known = frozenset[str]()

    def __getattr__(self, name: str) -> Any:
        if name in self._known:
            return self.get(name)
        raise AttributeError(name)


class WithMetadata(_Found):
    """`value` and `metadata`."""

    __slots__ = ()
    _known = frozenset({"value", "metadata", "cacheStatus"})


class ListedKey(_Found):
    """`name`; `expiration` and `metadata` where it has them."""

    __slots__ = ()
    _known = frozenset({"name", "expiration", "metadata"})


class Listed(_Found):
    """`keys`, `list_complete`; `cursor` where more follow."""

    __slots__ = ()
    _known = frozenset({"list_complete", "cursor", "cacheStatus"})

    @property
    def keys(self) -> Sequence[ListedKey]:  # type: ignore[override]  # Cloudflare's name wins over dict's
        found: Sequence[ListedKey] = self["keys"]
        return found


class KVNamespace:
    """One namespace. Reads see every write that has returned, in any process."""

    __slots__ = ("_keyvalues", "_namespace", "_opened", "_waiting", "_writer")

    def __init__(self, keyvalues: KeyValues, namespace: str) -> None:
        self._keyvalues = keyvalues
        self._namespace = namespace
        self._opened = False
        self._waiting: deque[_Put] = deque()
        self._writer: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return "<KV namespace>"

    # ---- reading

    async def get(
        self,
        key: str | Sequence[str],
        type: str | Mapping[str, Any] | None = None,
        *,
        cacheTtl: int | None = None,  # noqa: N803  # Cloudflare's name
        cache_ttl: int | None = None,
    ) -> Any:
        """The value, or None. Of a list of keys: a dict that has each of them."""
        wanted, ttl = _get_options(type, cache_ttl if cacheTtl is None else cacheTtl)
        if isinstance(key, str):
            entry = await self._entry(key, wanted, ttl)
            return None if entry is None else _value(entry.value, wanted)
        return {name: found.value for name, found in (await self._bulk(key, wanted, ttl)).items()}

    async def get_with_metadata(
        self,
        key: str | Sequence[str],
        type: str | Mapping[str, Any] | None = None,
        *,
        cacheTtl: int | None = None,  # noqa: N803  # Cloudflare's name
        cache_ttl: int | None = None,
    ) -> Any:
        """As `get`, with `.value` and `.metadata`: both None where there is nothing."""
        wanted, ttl = _get_options(type, cache_ttl if cacheTtl is None else cacheTtl)
        if isinstance(key, str):
            return _with_metadata(await self._entry(key, wanted, ttl), wanted)
        return await self._bulk(key, wanted, ttl)

    getWithMetadata = get_with_metadata  # noqa: N815  # Cloudflare's name

    async def list(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        prefix: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Listed:
        """In the order of the keys' UTF-8, 1,000 at most; `cursor` goes on where the page before ended."""
        if options is not None:
            said = _options(options, _LIST_OPTIONS)
            prefix, limit, cursor = said.get("prefix", prefix), said.get("limit", limit), said.get("cursor", cursor)
        keyvalues.check_prefix(prefix or "")
        count = keyvalues.limit_of(limit)
        read = partial(self._keyvalues.list, self._namespace, prefix or "", count, cursor or None)
        return _listed(await self._in_thread("GET", read))

    # ---- writing

    async def put(
        self,
        key: str,
        value: Any,
        options: Mapping[str, Any] | None = None,
        *,
        expirationTtl: int | None = None,  # noqa: N803  # Cloudflare's name
        expiration_ttl: int | None = None,
        expiration: int | None = None,
        metadata: Any = None,
    ) -> None:
        """Durable when it returns. `value` is str, bytes, a Blob or a stream."""
        keyvalues.check_key("PUT", key)
        ttl = expiration_ttl if expirationTtl is None else expirationTtl
        if options is not None:
            said = _options(options, _PUT_OPTIONS)
            ttl = said.get("expirationTtl", said.get("expiration_ttl", ttl))
            expiration, metadata = said.get("expiration", expiration), said.get("metadata", metadata)
        described = keyvalues.metadata_of(metadata)
        content = await _content(value)
        keyvalues.check_value_size(len(content))
        expires = keyvalues.expires_of(time.time(), ttl, expiration)
        await self._written(key, Entry(content, described, expires, None if ttl is None else int(ttl)))

    async def delete(self, key: str) -> None:
        """Of what is not there too."""
        keyvalues.check_key("DELETE", key)
        await self._in_thread("DELETE", partial(self._keyvalues.delete, self._namespace, key))

    # ---- the store

    async def _entry(self, key: str, wanted: str, cache_ttl: object) -> Entry | None:
        keyvalues.check_key("GET", key)
        if cache_ttl is not None:
            keyvalues.check_cache_ttl("GET", cache_ttl)
        if wanted not in _TYPES:
            raise KVTypeError(
                'Unknown response type. Possible types are "text", "arrayBuffer", "bytes", "json", and "stream".'
            )
        read = partial(self._keyvalues.get, self._namespace, key)
        if not (self._opened and self._keyvalues.near):
            return await self._in_thread("GET", read)
        _count()
        try:
            return read(most=AT_ONCE)
        except Larger:
            return await self._in_thread("GET", read, counted=True)
        except SvcctlError as error:
            raise KVUnavailable("GET", error) from error

    async def _bulk(self, keys: Sequence[str], wanted: str, cache_ttl: object) -> dict[str, WithMetadata]:
        keyvalues.check_keys(keys)
        keyvalues.check_cache_ttl("GET_BULK", cache_ttl)
        if wanted not in ("text", "json"):
            raise failed("GET_BULK", 400, f'"{wanted}" is not a valid type. Use "json" or "text"')
        read = partial(_read_all, self._keyvalues, self._namespace, tuple(dict.fromkeys(keys)))
        entries = await self._in_thread("GET_BULK", read)
        try:
            return {key: _with_metadata(entry, wanted) for key, entry in entries.items()}
        except ValueError as error:
            text = f"At least one of the requested keys corresponds to a non-{wanted} value"
            raise failed("GET_BULK", 400, text) from error

    async def _written(self, key: str, entry: Entry) -> None:
        _count()
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append(_Put(key, entry, done))
        if self._writer is None:
            # In no request's context: it goes on for others when the one that began it is over.
            self._writer = loop.create_task(self._write(), context=Context())
        await done

    async def _write(self) -> None:
        try:
            while puts := self._next():
                entries = [(put.key, put.entry) for put in puts]
                try:
                    write = partial(self._keyvalues.put_all, self._namespace, entries)
                    await self._in_thread("PUT", write, counted=True)
                except Exception as error:  # noqa: BLE001 - whose puts these are is told, and may be many
                    for put in puts:
                        put.failed(error)
                else:
                    for put in puts:
                        put.succeeded()
        finally:
            self._writer = None

    def _next(self) -> Sequence["_Put"]:
        """What is written together. Who was cancelled meanwhile wants nothing written any more."""
        puts: list[_Put] = []
        size = 0
        while self._waiting and len(puts) < _TOGETHER and size < _SIZE:
            put = self._waiting.popleft()
            if not put.done.done():
                puts.append(put)
                size += len(put.entry.value)
        return puts

    async def _in_thread(self, operation: Operation, work: Callable[[], T], *, counted: bool = False) -> T:
        if not counted:
            _count()
        try:
            done = await asyncio.get_running_loop().run_in_executor(_threads(), work)
        except SvcctlError as error:
            raise KVUnavailable(operation, error) from error
        self._opened = True
        return done


class _Put(NamedTuple):
    """One that waits for its turn."""

    key: str
    entry: Entry
    done: asyncio.Future[None]

    def succeeded(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, error: Exception) -> None:
        """Each raises an error of its own: a traceback belongs to one."""
        if self.done.done():
            return
        self.done.set_exception(KVUnavailable("PUT", error.__cause__) if isinstance(error, KVUnavailable) else error)


@cache
def _threads() -> ThreadPoolExecutor:
    """Made by the first call: the process that workers are forked from has none."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="kv")


def _count() -> None:
    """Each operation is one of the calls that a request may make."""
    invocation = current.get(None)
    if invocation is not None:
        invocation.outer.subrequests -= 1
        if invocation.outer.subrequests < 0:
            raise TooManySubrequests


def _read_all(store: KeyValues, namespace: str, keys: Sequence[str]) -> dict[str, Entry | None]:
    found: dict[str, Entry | None] = {}
    left = keyvalues.BULK_SIZE
    for key in keys:
        try:
            entry = store.get(namespace, key, most=left)
        except Larger:
            limit = keyvalues.BULK_SIZE // 1024 // 1024
            raise failed("GET_BULK", 413, f"Total size of request exceeds the limit of {limit}MB") from None
        found[key] = entry
        left -= len(entry.value) if entry else 0
    return found


# ---- arguments


def _get_options(type: str | Mapping[str, Any] | None, cache_ttl: object) -> tuple[str, object]:
    if type is None or isinstance(type, str):
        return type or "text", cache_ttl
    said = _options(type, _GET_OPTIONS)
    return said.get("type") or "text", said.get("cacheTtl", said.get("cache_ttl", cache_ttl))


def _options(options: object, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(options, Mapping):
        raise KVTypeError(f"KV options are a dict, not a {type(options).__name__}.")
    for name in options:
        if name not in known:
            guess = near(str(name), known)
            raise KVTypeError(f"KV has no option {name!r}" + (f"; did you mean {guess}?" if guess else ""))
    return options


async def _content(value: Any) -> bytes:
    match value:
        case str():
            try:
                return value.encode()
            except UnicodeEncodeError as error:
                raise failed("PUT", 400, "half of a surrogate pair has no UTF-8") from error
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case Blob():
            return value.content
        case AsyncIterable():
            return await _joined(value)
    raise KVTypeError(
        "KV put() accepts only str, bytes, Blobs, and streams (async iterators) as values, "
        f"not {'None' if value is None else f'a {type(value).__name__}'}."
    )


async def _joined(stream: AsyncIterable[Any]) -> bytes:
    """Gives up where it grows too long, before it is all in memory."""
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        parts.append(part.encode() if isinstance(part, str) else bytes(part))
        size += len(parts[-1])
        keyvalues.check_value_size(size)
    return b"".join(parts)


# ---- answers


def _value(value: bytes, wanted: str) -> Any:
    match wanted:
        case "text":
            return value.decode("utf-8", "replace")
        case "json":
            return json.loads(value.decode("utf-8", "replace"))
        case "arrayBuffer":
            return Chunk(value)
        case "stream":
            return ReadableStream(value)
    return value


def _with_metadata(entry: Entry | None, wanted: str) -> WithMetadata:
    if entry is None:
        return WithMetadata(value=None, metadata=None, cacheStatus=None)
    metadata = None if entry.metadata is None else json.loads(entry.metadata)
    return WithMetadata(value=_value(entry.value, wanted), metadata=metadata, cacheStatus=None)


def _listed(page: Page) -> Listed:
    keys = [
        ListedKey(
            {"name": key.name}
            | ({} if key.expires is None else {"expiration": key.expires})
            | ({} if key.metadata is None else {"metadata": json.loads(key.metadata)})
        )
        for key in page.keys
    ]
    more = {} if page.cursor is None else {"cursor": page.cursor}
    return Listed(keys=keys, list_complete=page.list_complete, cacheStatus=None, **more)

"""The rules of KV, in Cloudflare's limits and words: what a key, a value and an expiry may be. No IO.

Time is wall clock, in seconds since 1970, and is always given. An entry is there while `now < expires`. So it is never
read after its time by the reader's own clock; a clock that is set back may show again what is not removed yet, and what
was put while the clock was wrong keeps the expiry that was computed then. Zones and summer time have no part in it.
"""

import base64
import binascii
import json
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from svcctl.model import EnvironmentId

KEY_LENGTH = 512
"""Bytes of UTF-8."""
VALUE_SIZE = 25 * 1024 * 1024
METADATA_SIZE = 1024
"""Bytes of JSON."""
SHORTEST = 60
"""Seconds from now to the nearest expiry that can be asked for."""
LIST_LIMIT = 1000
BULK_KEYS = 100
BULK_SIZE = 25 * 1024 * 1024

Operation = Literal["GET", "GET_BULK", "PUT", "DELETE"]


class KVError(Exception):
    """What KV refuses, in Cloudflare's words: `KV PUT failed: 413 Value length of …`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class KVTypeError(KVError, TypeError):
    """An argument of a wrong kind."""

    def __init__(self, text: str) -> None:
        super().__init__(400, text)


class Larger(Exception):
    """The value is longer than its reader wants to wait for."""


class Entry(NamedTuple):
    value: bytes
    metadata: str | None = None
    """JSON, as it was put."""
    expires: int | None = None
    ttl: int | None = None
    """To be put: in so many seconds, by the store's clock, whatever `expires` says by the writer's."""

    def end(self, now: float) -> int | None:
        return self.expires if self.ttl is None else int(now) + self.ttl


class Key(NamedTuple):
    name: str
    expires: int | None
    metadata: str | None


class Page(NamedTuple):
    keys: tuple[Key, ...]
    cursor: str | None
    """Where the next page goes on; None on the last."""

    @property
    def list_complete(self) -> bool:
        return self.cursor is None


class KeyValues(Protocol):
    """Namespaces of entries, shared by processes. Calls may block: for a disk, or another writer.

    What every method promises: a write is durable and visible to every reader when it returns; killed at any instant
    (`kill -9`) it was done whole or not at all, and the next call works without repair. Of two writers of one key the
    later one's entry stays whole. A read sees one instant, and waits for no writer. Raises Unreachable, Refused (a
    full disk) or Damage where it can't be done: then nothing was changed.
    """

    @property
    def near(self) -> bool:
        """Whether a small value is read in microseconds, so that an event loop can wait for it."""

    def get(self, namespace: str, key: str, now: float | None = None, *, most: int | None = None) -> Entry | None:
        """None where there is nothing, or nothing any more: by the store's clock, unless `now` says when. Raises
        Larger, having read nothing, where the value is longer than `most` bytes."""

    def put(self, namespace: str, key: str, value: bytes, metadata: str | None, expires: int | None) -> None:
        """A namespace begins with its first entry."""

    def put_all(self, namespace: str, entries: Sequence[tuple[str, Entry]]) -> None:
        """All of them or none, in one go."""

    def delete(self, namespace: str, key: str) -> None:
        """What is not there stays so."""

    def list(self, namespace: str, prefix: str, limit: int, cursor: str | None, now: float | None = None) -> Page:
        """In the order of the keys' UTF-8. A page sees one instant, several pages don't: a key that stays is on exactly
        one of them, whatever else comes and goes. Raises KVError for a cursor that no page gave."""

    def namespaces(self) -> tuple[str, ...]:
        """Those that anything was ever put into, sorted."""

    def copy(self, source: str, target: str) -> int | None:
        """So many entries of `source`, as of one instant, that begin `target`; what `target` has already stays. All of
        them appear at once. Done once for a pair: None where an earlier call did it. Writers go on meanwhile."""

    def close(self) -> None: ...


def namespace(environment: EnvironmentId, born: int, label: str) -> str:
    """The one name of an environment's resource `label`. A name that was deleted and is made again gets back its id,
    never its data: `born`, the number that its present life began after, tells the lives apart."""
    return f"{environment}.{born}.{label}"


def life_of(namespace: str) -> tuple[str, int, str] | None:
    """The environment's id, `born` and the label; None for a name of another form."""
    parts = namespace.split(".")
    return (parts[0], int(parts[1]), parts[2]) if len(parts) == 3 and parts[1].isdecimal() else None


# ---- checks: each raises KVError


def failed(operation: Operation, status: int, reason: str) -> KVError:
    return KVError(status, f"KV {operation} failed: {status} {reason}")


def check_key(operation: Operation, key: object) -> None:
    if type(key) is not str:
        raise KVTypeError(f"A key is a str, not {_kind(key)}.")
    if not key:
        raise KVTypeError("Key name cannot be empty.")
    if key in {".", ".."}:
        raise KVTypeError(f'"{key}" is not allowed as a key name.')
    _check_length(operation, key)


def check_keys(keys: Sequence[object]) -> None:
    if len(keys) > BULK_KEYS:
        raise failed("GET_BULK", 400, f"You can request a maximum of {BULK_KEYS} keys")
    if not keys:
        raise failed("GET_BULK", 400, "You must request a minimum of 1 key")
    for key in keys:
        check_key("GET_BULK", key)


def _check_length(operation: Operation, key: str) -> None:
    if len(key) * 4 > KEY_LENGTH or not key.isascii():
        length = len(_utf8(operation, key))
        if length > KEY_LENGTH:
            raise failed(operation, 414, f"UTF-8 encoded length of {length} exceeds key length limit of {KEY_LENGTH}.")


def check_value_size(size: int) -> None:
    if size > VALUE_SIZE:
        raise failed("PUT", 413, f"Value length of {size} exceeds limit of {VALUE_SIZE}.")


def metadata_of(metadata: Any) -> str | None:
    """As JSON."""
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise KVTypeError(f"KV metadata has no JSON form: {error}") from error
    length = len(_utf8("PUT", text))
    if length > METADATA_SIZE:
        raise failed("PUT", 413, f"Metadata length of {length} exceeds limit of {METADATA_SIZE}.")
    return text


def expires_of(now: float, ttl: object, expiration: object) -> int | None:
    """When an entry ends that is put now; `ttl` wins over `expiration`, as it does on Cloudflare."""
    if ttl is not None:
        seconds = _integer(ttl)
        if seconds is None or seconds <= 0:
            raise failed("PUT", 400, f"Invalid expiration_ttl of {ttl}. Please specify integer greater than 0.")
        if seconds < SHORTEST:
            raise failed("PUT", 400, f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {SHORTEST}.")
        return int(now) + seconds
    if expiration is None:
        return None
    at = _integer(expiration)
    if at is None or at <= now:
        raise failed(
            "PUT",
            400,
            f"Invalid expiration of {expiration}. Please specify integer greater than the current number of seconds "
            "since the UNIX epoch.",
        )
    if at < int(now) + SHORTEST:
        raise failed(
            "PUT",
            400,
            f"Invalid expiration of {expiration}. Expiration times must be at least {SHORTEST} seconds in the future.",
        )
    return at


def check_cache_ttl(operation: Operation, seconds: object) -> None:
    """Checked and not used: every read here sees the newest write."""
    if seconds is not None and ((known := _integer(seconds)) is None or known < SHORTEST):
        raise failed(operation, 400, f"Invalid cache_ttl of {seconds}. Cache TTL must be at least {SHORTEST}.")


def limit_of(limit: object) -> int:
    if limit is None:
        return LIST_LIMIT
    count = _integer(limit)
    if count is None or count < 1:
        raise failed("GET", 400, f"Invalid key_count_limit of {limit}. Please specify an integer greater than 0.")
    if count > LIST_LIMIT:
        raise failed(
            "GET", 400, f"Invalid key_count_limit of {limit}. Please specify an integer less than {LIST_LIMIT}."
        )
    return count


def check_prefix(prefix: object) -> None:
    if type(prefix) is not str:
        raise KVTypeError(f"A prefix is a str, not {_kind(prefix)}.")
    _check_length("GET", prefix)


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    whole = int(value)
    return whole if abs(whole) < 2**53 else None


def _utf8(operation: Operation, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise failed(operation, 400, "half of a surrogate pair has no UTF-8") from error


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


# ---- cursors


def cursor_after(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


def key_before(cursor: str) -> bytes:
    """What `cursor_after` was given."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise failed("GET", 400, "Invalid cursor") from error

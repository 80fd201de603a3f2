"""Routes of data planes on other machines: what changed, code, secrets, KV."""

from contextlib import closing, suppress
from typing import Annotated

from msgspec import Meta

from svcctl import digest
from svcctl.api.guarded import Guarded
from svcctl.api.reading import OneDigest, Text
from svcctl.api.route import KB, MB, Raw, Route
from svcctl.backend.base import Followed, Stream
from svcctl.backend.messages import BLOB, FRAMES, KVCopied, KVCopy, KVEntry, KVGot, KVKey, KVPage, ToReveal, frame_head
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, TooLarge, UsageError
from svcctl.keyvalues import Entry, KVError, Larger, check_key, check_prefix, check_value_size
from svcctl.model import Model

TOGETHER = 4 * MB
"""Bytes of blobs in one answer, about."""
KV_BODY = 36 * MB
"""The largest value, in base64, and what stands around it."""


class After(Model, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0, le=1 << 60)] = 0


class OneNamespace(Model, forbid_unknown_fields=True):
    namespace: Text


class OneKey(Model, forbid_unknown_fields=True):
    namespace: Text
    key: Annotated[str, Meta(max_length=1000)]
    most: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    """Bytes that the reader wants to wait for."""


class Keys(Model, forbid_unknown_fields=True):
    namespace: Text
    prefix: Text = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    cursor: Text | None = None


def follow(backend: Guarded, asked: After) -> Followed:
    return backend.follow(asked.after)


def reveal(backend: Guarded, body: ToReveal) -> dict[str, bytes]:
    return {name: value.reveal() for name, value in backend.reveal(body.environment, body.secrets).items()}


def blob(backend: Guarded, asked: OneDigest) -> Stream:
    return backend.open_blob(Digest(asked.digest))


def several(backend: Guarded, body: tuple[Digest, ...]) -> Raw:
    """As many as go together. What is large, missing or damaged is left out: asked for alone, it gets an answer."""
    content = bytearray()
    for each in body:
        if len(content) > TOGETHER:
            break
        with suppress(NotFound, Damage):
            if (size := backend.blob_size(each)) <= TOGETHER:
                with closing(backend.open_blob(each)) as stream:
                    content += frame_head(each, size) + stream.read()
    found = bytes(content)
    return Raw(found, FRAMES, digest.of_blob(found))


def kv_get(backend: Guarded, asked: OneKey) -> KVGot:
    _check_key("GET", asked.key)
    try:
        found = backend.kv_get(asked.namespace, asked.key, asked.most)
    except Larger:
        return KVGot(larger=True)
    if found is None:
        return KVGot()
    return KVGot(entry=KVEntry(key=asked.key, value=found.value, metadata=found.metadata, expires=found.expires))


def kv_put(backend: Guarded, asked: OneNamespace, body: tuple[KVEntry, ...]) -> None:
    for each in body:
        _check_key("PUT", each.key)
        _check_size(len(each.value))
        _check_seconds(each.expires)
        _check_seconds(each.ttl)
    entries = [(each.key, Entry(each.value, each.metadata, each.expires, each.ttl)) for each in body]
    backend.kv_put(asked.namespace, entries)


def kv_delete(backend: Guarded, asked: OneKey) -> None:
    _check_key("DELETE", asked.key)
    backend.kv_delete(asked.namespace, asked.key)


def kv_list(backend: Guarded, asked: Keys) -> KVPage:
    try:
        check_prefix(asked.prefix)
        page = backend.kv_list(asked.namespace, asked.prefix, asked.limit, asked.cursor)
    except KVError as error:
        raise UsageError(str(error)) from error
    keys = tuple(KVKey(name=key.name, expires=key.expires, metadata=key.metadata) for key in page.keys)
    return KVPage(keys=keys, cursor=page.cursor)


def kv_copy(backend: Guarded, asked: OneNamespace, body: KVCopy) -> KVCopied:
    return KVCopied(count=backend.kv_copy(body.source, asked.namespace))


def _check_key(operation: str, key: str) -> None:
    try:
        check_key(operation, key)  # type: ignore[arg-type]  # one of its operations
    except KVError as error:
        raise UsageError(str(error)) from error


def _check_seconds(seconds: int | None) -> None:
    if seconds is not None and abs(seconds) >= 1 << 53:
        raise UsageError("a time is less than 2^53 seconds")


def _check_size(size: int) -> None:
    try:
        check_value_size(size)
    except KVError as error:
        raise TooLarge(str(error)) from error


ROUTES = (
    Route(
        "GET",
        "/v1/follow",
        "Environments that changed after change `after`; with 0 all that live",
        follow,
        power="follow",
    ),
    Route("POST", "/v1/reveal", "The values behind a head's fingerprints, in base64", reveal, 256 * KB, power="reveal"),
    Route("GET", "/v1/blobs/{digest}", "A blob, or ranges of it", blob, answers=BLOB, power="fetch", kind="blob"),
    Route(
        "POST", "/v1/blobs/several", "Small blobs, as many as go together", several, MB, answers=FRAMES, power="fetch"
    ),
    Route("GET", "/v1/kv/{namespace}/entry", "One entry of a KV namespace", kv_get, power="keyvalues"),
    Route("PUT", "/v1/kv/{namespace}/entries", "Write entries, all or none", kv_put, KV_BODY, power="keyvalues"),
    Route("DELETE", "/v1/kv/{namespace}/entry", "Delete an entry", kv_delete, power="keyvalues"),
    Route("GET", "/v1/kv/{namespace}/keys", "A page of keys", kv_list, power="keyvalues"),
    Route(
        "POST",
        "/v1/kv/{namespace}/copy",
        "Begin a namespace with another one's entries",
        kv_copy,
        4 * KB,
        power="keyvalues",
    ),
)

"""Routes of moves between backends (`backend.moving`): for an admin of everything, for history holds everything."""

import re
from typing import Annotated

from msgspec import Meta

from svcctl.api.guarded import Guarded
from svcctl.api.route import KB, MB, Route
from svcctl.backend.messages import Count, ToSealAll, ToTake
from svcctl.backend.segment import SealedSecrets, Segment, Standing, Valueless
from svcctl.errors import UsageError
from svcctl.model import Model
from svcctl.sealing import MasterKey, SecretValue

SEGMENT = 256 * MB
_HEAD = re.compile(r"[0-9]{1,18}:[0-9a-f]{64}")
Number = Annotated[int, Meta(ge=0, le=1 << 60)]


class AsOf(Model, forbid_unknown_fields=True):
    at: Number | None = None


class Stretch(Model, forbid_unknown_fields=True):
    after: Number
    until: Number


def standing(backend: Guarded, asked: AsOf) -> Standing:
    return backend.whole().standing(asked.at)


def segment(backend: Guarded, asked: Stretch) -> Segment:
    return backend.whole().segment(asked.after, asked.until)


def append(backend: Guarded, body: Segment) -> Standing:
    for head in (body.after, body.head):
        if not _HEAD.fullmatch(head):
            raise UsageError("a head is N:DIGEST")
    return backend.whole().append(body)


def valueless(backend: Guarded) -> tuple[Valueless, ...]:
    return backend.whole().valueless()


def seal_all(backend: Guarded, body: ToSealAll) -> SealedSecrets:
    return backend.whole().seal_all(_key(body.key), body.salt)


def take_secrets(backend: Guarded, body: ToTake) -> Count:
    return Count(count=backend.whole().take_secrets(body.sent, _key(body.key)))


def kv_namespaces(backend: Guarded) -> tuple[str, ...]:
    return backend.whole().keyvalues.namespaces()


def _key(key: bytes) -> MasterKey:
    return MasterKey(SecretValue(key), "a passphrase")


ROUTES = (
    Route("GET", "/v1/standing", "Which store it is, and its head now or as of change `at`", standing),
    Route("GET", "/v1/segments", "A stretch of history, as it is stored", segment),
    Route("POST", "/v1/segments", "Go on with another store's history", append, SEGMENT),
    Route("GET", "/v1/valueless", "Secrets whose values were left behind", valueless),
    Route("POST", "/v1/secrets/seal", "Every secret's value, under a key of the caller's", seal_all, 4 * KB),
    Route("POST", "/v1/secrets", "Take values that were sealed so", take_secrets, SEGMENT),
    Route("GET", "/v1/kv", "The KV namespaces that anything was ever put into", kv_namespaces),
)

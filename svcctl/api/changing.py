"""Routes that change something, and what leads there: plans, seals, uploads."""

from collections.abc import Iterable

from svcctl import digest
from svcctl.api.guarded import Guarded
from svcctl.api.joining import Joined
from svcctl.api.reading import OneDigest
from svcctl.api.route import KB, MB, Route
from svcctl.backend.altered import Altered
from svcctl.backend.base import Stored, Stream
from svcctl.backend.messages import FRAMES, MANIFEST, Registered, ToSeal
from svcctl.commands import Command
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Refused, TooLarge
from svcctl.model import Change, Sealed
from svcctl.rules.state import Plan
from svcctl.sealing import VALUE_SIZE

SEAL = 96 * KB
"""A value of `VALUE_SIZE` in base64, and what it is for."""
COMMAND = 10 * MB
MANIFEST_SIZE = 64 * MB
FRAMES_SIZE = 8 << 30


def apply(backend: Guarded, body: Command) -> Change:
    return backend.apply(body)


def plan(backend: Guarded, body: Command) -> Plan:
    return backend.plan(body)


def seal(backend: Guarded, body: ToSeal) -> Sealed:
    if len(body.value) > VALUE_SIZE:
        raise TooLarge(f"{body.name}: its value has more than {VALUE_SIZE} bytes, which is the limit")
    return backend.seal(body.service, body.environment, body.name, body.value)


def missing(backend: Guarded, body: tuple[Digest, ...]) -> tuple[Digest, ...]:
    return tuple(sorted(backend.missing(body)))


def blobs(backend: Guarded, body: Iterable[tuple[Digest, int, Stream]]) -> Stored:
    return backend.store_blobs(body)


def artifact(backend: Guarded, asked: OneDigest, body: bytes) -> Registered:
    if digest.of("artifact", body) != asked.digest:
        raise Refused("the manifest does not match its digest", hint="nothing was stored")
    return Registered(missing=tuple(sorted(backend.register(body))))


def artifact_altered(backend: Guarded, asked: OneDigest, body: Altered) -> Registered:
    return Registered(missing=tuple(sorted(backend.register_altered(Digest(asked.digest), body))))


def joined(backend: Guarded, asked: OneDigest, body: tuple[Digest, ...]) -> Registered:
    """Parts that are damaged are told one at a time: each is hashed when it is its turn."""
    if gone := backend.missing(body):
        return Registered(missing=tuple(sorted(gone)))
    size = sum(map(backend.blob_size, body))
    if size > FRAMES_SIZE:
        raise TooLarge("the parts are too large together")
    parts = Joined(backend.open_blob, body)
    try:
        backend.store_blobs([(Digest(asked.digest), size, parts)])
    except (Damage, NotFound):
        if parts.lost is None:
            raise
        return Registered(missing=(parts.lost,))
    return Registered()


ROUTES = (
    Route("POST", "/v1/changes", "Carry a command out, once", apply, COMMAND, power="change"),
    Route("POST", "/v1/plan", "What a command would do", plan, COMMAND, power="change"),
    Route("POST", "/v1/seal", "Seal a secret's value for an environment", seal, SEAL, power="change"),
    Route("POST", "/v1/blobs/missing", "Which of these blobs are not there", missing, COMMAND, power="upload"),
    Route("POST", "/v1/blobs", "Store blobs, all or none", blobs, FRAMES_SIZE, FRAMES, power="upload", kind="frames"),
    Route("PUT", "/v1/blobs/{digest}", "Join blobs that are there to a larger one; 409 names those that are not",
          joined, 256 * KB, power="upload"),
    Route("PUT", "/v1/artifacts/{digest}", "Register an artifact whose blobs are there; 409 names those that are not",
          artifact, MANIFEST_SIZE, MANIFEST, power="upload", kind="bytes"),
    Route("POST", "/v1/artifacts/{digest}", "The same, told by its difference from an artifact that is there",
          artifact_altered, COMMAND, power="upload"),
)  # fmt: skip

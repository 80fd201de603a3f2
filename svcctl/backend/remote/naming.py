"""What makes something of blobs that are there: an artifact of files, a large file of its parts. The answer is what is
missing of it, or damaged; nothing: it is made."""

from svcctl import wire
from svcctl.backend.altered import Altered
from svcctl.backend.base import Artifact
from svcctl.backend.messages import MANIFEST, Registered
from svcctl.backend.remote.session import JSON, Session
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Refused, UsageError

_LONG = 600.0
"""Seconds for what hashes all of a large file."""


class Naming:
    def __init__(self, session: Session, artifact: Artifact, told: Altered | None) -> None:
        """`told` stands for the manifest, as long as the API can follow it."""
        self._session = session
        self._artifact = artifact
        self._told = wire.canonical(told) if told else None

    def artifact(self) -> frozenset[Digest]:
        path = f"/v1/artifacts/{self._artifact.digest}"
        if self._told is not None:
            try:
                return self._ask("POST", path, self._told, JSON)
            except (Damage, NotFound, Refused, UsageError):  # no such base, or no such route
                self._told = None
        return self._ask("PUT", path, self._artifact.content, MANIFEST)

    def joined(self, blob: Digest, parts: list[Digest]) -> frozenset[Digest]:
        return self._ask("PUT", f"/v1/blobs/{blob}", wire.canonical(parts), JSON, _LONG)

    def _ask(self, method: str, path: str, body: bytes, media: str, timeout: float | None = None) -> frozenset[Digest]:
        def name() -> bytes:
            with self._session.answering(
                method, path, body=body, media=media, accepted=(409,), timeout=timeout
            ) as response:
                return self._session.all_of(response)

        return frozenset(self._session.decoded(self._session.trying(name), Registered).missing)

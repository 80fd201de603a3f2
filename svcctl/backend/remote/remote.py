"""A Backend on another machine: the routes that do something. What is done where is told in `reading` (checks),
`session` (tries), `failures` (words), `sending` (uploads), `receiving` (blobs).

The feed of changes is held against what it said before.
"""

import base64
import time
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from svcctl import wire
from svcctl.backend.altered import Altered, altered
from svcctl.backend.base import Artifact, Followed, Stored
from svcctl.backend.messages import Count, Newest, ToReveal, ToSeal, ToSealAll, ToTake
from svcctl.backend.remote import sending
from svcctl.backend.remote.reading import Reading
from svcctl.backend.remote.session import PATIENT, Patience, Session
from svcctl.backend.segment import SealedSecrets, Segment, Standing, Valueless
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Unreachable
from svcctl.model import Change, EnvironmentId, Sealed
from svcctl.progress import SILENT, Progress
from svcctl.rules.state import Plan
from svcctl.sealing.value import SecretValue

if TYPE_CHECKING:
    from svcctl.backend.remote.keyvalues import RemoteKeyValues
    from svcctl.backend.remote.library import httpx
    from svcctl.commands import Command
    from svcctl.sealing import MasterKey

_POLL = 25.0
_SLACK = 5.0  # seconds over a poll's own in which its answer must be there
_LONG = 600.0  # seconds for what checks or seals everything


class Seen:
    """How far an API's feed of changes went; shared by those that must not be led back by it."""

    def __init__(self) -> None:
        self.store = ""
        self.number = 0


class Remote(Reading):
    def __init__(
        self,
        url: str,
        token: SecretValue | None,
        transport: "httpx.BaseTransport | None" = None,
        *,
        patience: Patience = PATIENT,
        seen: Seen | None = None,
    ) -> None:
        """Nothing is sent yet. `transport` stands in for the network. Raises UsageError for a URL that must not be
        used, such as plain http to another machine."""
        super().__init__(Session(url, token, transport, patience))
        self._seen = seen or Seen()

    # ---- running

    def follow(self, after: int) -> Followed:
        found: Followed = self._read(Followed, "/v1/follow", after=after)
        if found.store == self._seen.store:
            self._not_older(found.number)
        self._seen.store, self._seen.number = found.store, found.number
        return found

    def reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> dict[str, SecretValue]:
        body = wire.canonical(ToReveal(environment=environment, secrets=dict(secrets)))
        values = self._session.ask(dict[str, bytes], "POST", "/v1/reveal", body=body)
        self._check(values.keys() == secrets.keys(), "secrets")
        return {name: SecretValue(value) for name, value in values.items()}

    @cached_property
    def keyvalues(self) -> "RemoteKeyValues":
        from svcctl.backend.remote.keyvalues import RemoteKeyValues

        return RemoteKeyValues(self._session)

    # ---- mutations

    def plan(self, command: "Command") -> Plan:
        return self._session.ask(Plan, "POST", "/v1/plan", body=wire.canonical(command))

    def apply(self, command: "Command") -> Change:
        """Tried again under the same id, it is done once. Unreachable may mean that it was: `change` tells."""
        found = self._session.change(Change, "/v1/changes", wire.canonical(command))
        if found.id not in (None, command.id):
            raise Unreachable(f"{self.url} answered with another change than was asked for")
        return found

    def missing(self, blobs: Collection[Digest]) -> frozenset[Digest]:
        return sending.missing(self._session, blobs)

    def upload(self, artifact: Artifact, progress: Progress = SILENT, *, base: Digest | None = None) -> Stored:
        return sending.upload(self._session, artifact, progress, self._difference(artifact, base))

    def _difference(self, artifact: Artifact, base: Digest | None) -> Altered | None:
        if base is None:
            return None
        try:
            there = artifact.manifest if base == artifact.digest else self.manifest(base)
        except (Damage, NotFound):
            return None
        return altered(base, there, artifact.manifest)

    def seal(self, service: str, environment: str, name: str, value: bytes) -> Sealed:
        body = wire.canonical(ToSeal(service=service, environment=environment, name=name, value=value))
        return self._session.ask(Sealed, "POST", "/v1/seal", body=body)

    def wait(self, after: int, timeout: float) -> int:
        """Not tried again: who follows wants to know at once that there is nothing to follow."""
        deadline = time.monotonic() + timeout
        while True:
            seconds = max(0.0, min(deadline - time.monotonic(), _POLL))
            query = {"after": max(after, 0), "timeout": round(seconds, 3)}
            found = self._session.ask(Newest, "GET", "/v1/changes", query=query, again=False, timeout=seconds + _SLACK)
            self._not_older(found.number)
            if found.number > after or time.monotonic() >= deadline:
                return found.number

    # ---- moving

    def standing(self, at: int | None = None) -> Standing:
        return self._read(Standing, "/v1/standing", at=at)

    def segment(self, after: int, until: int) -> Segment:
        return self._read(Segment, "/v1/segments", after=after, until=until)

    def append(self, segment: Segment) -> Standing:
        """Done twice, it is done once."""
        return self._session.ask(Standing, "POST", "/v1/segments", body=wire.canonical(segment), timeout=_LONG)

    def seal_all(self, key: "MasterKey", salt: bytes) -> SealedSecrets:
        body = wire.canonical(ToSealAll(key=_bytes(key), salt=salt))
        return self._session.ask(SealedSecrets, "POST", "/v1/secrets/seal", body=body, timeout=_LONG)

    def take_secrets(self, sent: SealedSecrets, key: "MasterKey") -> int:
        body = wire.canonical(ToTake(sent=sent, key=_bytes(key)))
        return self._session.ask(Count, "POST", "/v1/secrets", body=body, timeout=_LONG).count

    def valueless(self) -> tuple[Valueless, ...]:
        return self._read(tuple[Valueless, ...], "/v1/valueless")

    def _not_older(self, number: int) -> None:
        """Of a store whose id is the same, fewer changes than it had mean that it was set back."""
        if number < self._seen.number:
            raise Damage(
                f"{self.url} says that there are {number} changes, and there were {self._seen.number}",
                hint="an older store answers; if it was put back from a backup, what follows it must be started anew",
            )


def _bytes(key: "MasterKey") -> bytes:
    return base64.b64decode(key.encoded().reveal())

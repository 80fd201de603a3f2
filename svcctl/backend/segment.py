"""What moves between stores: stretches of history, byte for byte as they are stored, and what the chains do not tell.

Everything that a digest or a chain covers travels as stored bytes and is held against them on arrival. Columns and
tables are not sent: they follow from the records, and the receiving store works them out (`rules.replay`). Two facts
can't be worked out, and travel as claims that must be plausible: the project that a change was typed for, and which
environment an explicit binding has been fixed to.
"""

from typing import NewType

from svcctl.digest import Digest
from svcctl.model import EnvironmentId, Model
from svcctl.rules.state import Bound

Head = NewType("Head", str)
"""`N:DIGEST`, as `verify` prints it: every chain as of change N."""


def number_of(head: Head) -> int:
    return int(head.partition(":")[0])


class Standing(Model):
    """Which store it is, and how far its history goes."""

    store: str
    head: Head

    @property
    def number(self) -> int:
        return number_of(self.head)


class SentChange(Model):
    project: str
    body: bytes


class SentRecord(Model):
    environment: EnvironmentId
    """Empty for the store's own chain."""
    change: int
    body: bytes


class Claim(Model):
    """What the newest version of an environment is bound to (`Identity.bound`)."""

    last: int
    """The version's number: of an older one it says nothing."""
    bound: dict[str, Bound]


class Segment(Model):
    """The changes after `after`, up to `head`, whole."""

    store: str
    after: Head
    head: Head
    changes: tuple[SentChange, ...]
    records: tuple[SentRecord, ...]
    """By change, and by place in their chain within it."""
    settings: tuple[bytes, ...]
    """The documents that versions among them name."""
    claims: dict[EnvironmentId, Claim]
    artifacts: tuple[Digest, ...]
    """Those that versions among them were the first to run here, in the order to fetch them in."""


class SentSecret(Model):
    environment: EnvironmentId
    name: str
    fingerprint: str
    ciphertext: bytes


class SealedSecrets(Model):
    """Every secret's value, present and past, under a key that is derived from a passphrase."""

    store: str
    salt: bytes
    key: str
    """The id of that key: tells a wrong passphrase from an altered value."""
    fingerprint_key: str
    secrets: tuple[SentSecret, ...]


class Valueless(Model):
    """A secret of a living head whose value this store does not have."""

    ref: str
    name: str

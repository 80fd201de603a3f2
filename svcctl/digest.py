"""SHA-256 over canonical bytes.

A blob's name is the plain SHA-256 of its bytes. Every other digest covers a type tag, a format number and the stored
bytes, so that bytes of one kind can never pass for another kind's.
"""

import hashlib
from typing import NewType

Digest = NewType("Digest", str)
"""64 lower-case hex digits."""

FORMAT = 1
SHORT = 8


def of_blob(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


def of(tag: str, stored: bytes) -> Digest:
    """The digest of a document of kind `tag` ("artifact", "settings", "record", "change", "head")."""
    return Digest(hashlib.sha256(b"svcctl:%s:%d\n" % (tag.encode(), FORMAT) + stored).hexdigest())


def short(digest: str) -> str:
    return digest[:SHORT]

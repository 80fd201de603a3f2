"""Values under the master key.

Layout of what is sealed: a format byte, 4 bytes of the key's id, 12 of nonce, then AES-256-GCM's output. The associated
data is a purpose and what the value was sealed for, each part with its length before it.
"""

import base64
import binascii
import hashlib
import hmac
import os
from functools import cached_property

from svcctl.errors import Damage, Refused
from svcctl.model import Sealed
from svcctl.sealing.keys import VARIABLE, MasterKey
from svcctl.sealing.value import SecretValue

_FORMAT = 1
_KEY_ID = slice(1, 5)
_NONCE = slice(5, 17)
_BODY = slice(17, None)
_TAG_SIZE = 16
_FINGERPRINT_DIGITS = 32


class Sealer:
    """One store's seal. `fingerprint_key` is what `new_fingerprint_key` returned when the store was made."""

    def __init__(self, master: MasterKey, store_id: str, fingerprint_key: str) -> None:
        self.master = master
        self._store = store_id
        self._sealed_fingerprint_key = fingerprint_key

    def fingerprint(self, name: str, value: SecretValue) -> str:
        """32 hex digits, the same for the same name and value in this store for ever: tells same from changed, and
        can't be guessed at without the key."""
        message = _joined("fingerprint", name.encode(), value.reveal())
        return hmac.new(self._fingerprint_key.reveal(), message, hashlib.sha256).hexdigest()[:_FINGERPRINT_DIGITS]

    def seal_for_transport(self, service: str, environment: str, name: str, value: SecretValue) -> Sealed:
        fingerprint = self.fingerprint(name, value)
        context = _joined("transport", self._store, service, environment, name, fingerprint)
        text = base64.b64encode(_seal(self.master, context, value)).decode()
        return Sealed(service=service, environment=environment, name=name, fingerprint=fingerprint, ciphertext=text)

    def open_transport(self, sealed: Sealed) -> SecretValue:
        place = f"{sealed.name} of {sealed.service}/{sealed.environment}"
        context = _joined("transport", self._store, sealed.service, sealed.environment, sealed.name, sealed.fingerprint)
        return _open(self.master, context, _decoded(sealed.ciphertext, place), place)

    def seal(self, environment_id: str, name: str, value: SecretValue) -> bytes:
        """As the store keeps it."""
        return _seal(self.master, _joined("rest", self._store, environment_id, name), value)

    def open(self, environment_id: str, name: str, ciphertext: bytes) -> SecretValue:
        """Raises Refused if it was sealed with another key, Damage if it was altered or belongs elsewhere."""
        context = _joined("rest", self._store, environment_id, name)
        return _open(self.master, context, ciphertext, f"{name} of environment {environment_id}")

    def rewrap(self, newer: "Sealer", environment_id: str, name: str, ciphertext: bytes) -> bytes:
        """The same value under `newer`'s master key."""
        return newer.seal(environment_id, name, self.open(environment_id, name, ciphertext))

    @cached_property
    def _fingerprint_key(self) -> SecretValue:
        return _open_fingerprint_key(self.master, self._store, self._sealed_fingerprint_key)


def new_fingerprint_key(master: MasterKey, store_id: str) -> str:
    """Made once in a store's life; kept by the store in its ledger."""
    return _seal_fingerprint_key(master, store_id, SecretValue(os.urandom(32)))


def rewrap_fingerprint_key(old: MasterKey, new: MasterKey, store_id: str, sealed: str) -> str:
    return _seal_fingerprint_key(new, store_id, _open_fingerprint_key(old, store_id, sealed))


def sealed_with(ciphertext: bytes | str) -> str:
    """The id of the master key it was sealed with; `str` is a sealed fingerprint key or a Sealed's ciphertext."""
    content = _decoded(ciphertext, "a sealed value") if isinstance(ciphertext, str) else ciphertext
    return content[_KEY_ID].hex()


def _seal_fingerprint_key(master: MasterKey, store_id: str, key: SecretValue) -> str:
    return base64.b64encode(_seal(master, _joined("fingerprint key", store_id), key)).decode()


def _open_fingerprint_key(master: MasterKey, store_id: str, sealed: str) -> SecretValue:
    what = "the store's fingerprint key"
    return _open(master, _joined("fingerprint key", store_id), _decoded(sealed, what), what)


def _seal(master: MasterKey, context: bytes, value: SecretValue) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 30 ms that few commands need

    nonce = os.urandom(12)
    body = AESGCM(master.derive(b"sealing")).encrypt(nonce, value.reveal(), context)
    return bytes([_FORMAT]) + bytes.fromhex(master.id) + nonce + body


def _open(master: MasterKey, context: bytes, sealed: bytes, what: str) -> SecretValue:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if sealed[:1] != bytes([_FORMAT]) or len(sealed) < _BODY.start + _TAG_SIZE:
        raise Damage(f"the sealed value of {what} is cut, altered, or from a newer svcctl")
    key_id = sealed[_KEY_ID].hex()
    try:
        value = SecretValue(AESGCM(master.derive(b"sealing")).decrypt(sealed[_NONCE], sealed[_BODY], context))
    except InvalidTag:
        raise _does_not_open(master, key_id, what) from None
    # The key's id is no part of the seal: a value that opens although the id differs was altered there.
    if key_id != master.id:
        raise Damage(f"the sealed value of {what} was altered: it names the key {key_id} and opens with {master.id}")
    return value


def _does_not_open(master: MasterKey, key_id: str, what: str) -> Damage | Refused:
    if key_id != master.id:
        return Refused(
            f"{what} was sealed with the key {key_id}; the present key, from {master.origin}, is {master.id}",
            hint=f"bring the former key back, as secret.key in the store's folder or in {VARIABLE}",
        )
    return Damage(f"the sealed value of {what} does not open: it was altered, or sealed for another place")


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Damage(f"the sealed value of {what} is not base64") from None


def _joined(purpose: str, *parts: str | bytes) -> bytes:
    """Each part with its length before it: no two lists of parts give the same bytes."""
    encoded = [part.encode() if isinstance(part, str) else part for part in (f"svcctl:1:{purpose}", *parts)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in encoded)

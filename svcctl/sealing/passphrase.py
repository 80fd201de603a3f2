"""A key from a passphrase, for secrets on their way from one store to another."""

import os

from svcctl.errors import Refused
from svcctl.sealing.keys import MasterKey
from svcctl.sealing.value import SecretValue

SHORTEST = 8
"""Characters. Whoever has the sealed values can try passphrases as fast as their machines allow."""
_SALT_SIZE = 16
# 64 MB and an eighth of a second for each try. Fixed: what came along with the values could ask for any amount.
_COST, _BLOCK, _LANES = 2**16, 8, 1


def new_salt() -> bytes:
    return os.urandom(_SALT_SIZE)


def passphrase_key(passphrase: SecretValue, salt: bytes) -> MasterKey:
    """The same for the same passphrase and salt (scrypt, RFC 7914)."""
    if len(passphrase.reveal().decode(errors="replace")) < SHORTEST:
        raise Refused(f"a passphrase needs {SHORTEST} characters", hint="a sentence of several words is a good one")
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    derived = Scrypt(salt=salt, length=32, n=_COST, r=_BLOCK, p=_LANES).derive(passphrase.reveal())
    return MasterKey(SecretValue(derived), "the passphrase")

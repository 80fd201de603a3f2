"""The secret of an API token: `svc_`, 43 digits of base 62 (256 random bits), 6 more that check those before.

The prefix is for secret scanners, the check for them and for typing errors: what is no token is told without asking a
store. A store knows the hash alone; a search for the secret behind it would be one through 2^256.
"""

import os
import re
import string
import zlib

from svcctl import digest
from svcctl.digest import Digest
from svcctl.sealing.value import SecretValue

PREFIX = "svc_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LENGTH, _CHECKED = 43, 6
_LIKE = re.compile(r"svc_[0-9A-Za-z]{8,}")


def new() -> SecretValue:
    body = PREFIX + _base62(int.from_bytes(os.urandom(32)), _LENGTH)
    return SecretValue(body + _check(body))


def is_token(text: str) -> bool:
    """Whether it has the form of one."""
    body, check = text[:-_CHECKED], text[-_CHECKED:]
    return (
        len(text) == len(PREFIX) + _LENGTH + _CHECKED
        and text.isascii()
        and text.startswith(PREFIX)
        and check == _check(body)
    )


def masked(text: str) -> str:
    """With whatever looks like a token hidden: people paste them into the wrong place."""
    return _LIKE.sub(f"{PREFIX}***", text)


def hash_of(secret: SecretValue) -> Digest:
    return digest.of("token", secret.reveal())


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKED)


def _base62(number: int, length: int) -> str:
    found = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        found = _DIGITS[digit] + found
    return found

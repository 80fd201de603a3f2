"""Bytes that must not be seen."""

import hmac
from typing import NoReturn, final

VALUE_SIZE = 64 * 1024
"""Bytes of one secret."""


@final
class SecretValue:
    """Shows as `***` wherever it is printed or formatted; refuses to be pickled or encoded. Text is UTF-8."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return hmac.compare_digest(self._value, other._value) if isinstance(other, SecretValue) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> "SecretValue":
        return self

    def __deepcopy__(self, memo: object) -> "SecretValue":
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret's value is not serialised")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret's value is not serialised")

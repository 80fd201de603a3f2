"""The Range header: one range of bytes. More than one, or what is none, is answered with the whole."""

import re

_ONE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def wanted_of(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """Where it starts, how long it is, and whether it is a part; None where it begins behind the end."""
    found = _ONE.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]):
        return 0, size, False
    if not found[1]:
        length = min(int(found[2]), size)
        return (size - length, length, True) if length else None
    start = int(found[1])
    end = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < start:
        return 0, size, False
    return (start, end - start + 1, True) if start < size else None

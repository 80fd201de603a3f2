"""Where the next page begins, as clients carry it: opaque to them, and checked when it comes back."""

import base64
import binascii

from svcctl.errors import UsageError


def write_cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"1:{position}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    kind, _, position = text.partition(":")
    if kind != "1" or not position.isdecimal():
        raise UsageError("that is no cursor of this command", hint="a cursor is the `next` of the page before")
    return int(position)

"""Two contents of a file as a unified diff that may be shown: no bytes, no control characters."""

import difflib
from collections.abc import Sequence

from svcctl.model import Model
from svcctl.text import clean, clean_lines

LIMIT = 512 * 1024
"""Bytes of a side above which no lines are compared: the time it takes grows with their square."""
_NO_NEWLINE = "\\ No newline at end of file"


class Patch(Model):
    path: str
    text: str = ""
    """A unified diff, or empty where `instead` says why there is none."""
    instead: str | None = None
    added: int = 0
    removed: int = 0


def patch(path: str, old: bytes | None, new: bytes | None) -> Patch:
    """None for a side that lacks the file."""
    sides = [content for content in (old, new) if content is not None]
    if any(len(content) > LIMIT for content in sides):
        return too_large(path)
    texts = [_text(content) for content in sides]
    if any(text is None for text in texts):
        return Patch(path=path, instead="binary files differ")
    before, after = _lines(old), _lines(new)
    lines = list(difflib.unified_diff(before, after, _name("a", path, old), _name("b", path, new), lineterm=""))
    return Patch(
        path=path,
        text="\n".join(_shown(line) for line in lines),
        added=sum(line.startswith("+") for line in lines[2:]),
        removed=sum(line.startswith("-") for line in lines[2:]),
    )


def too_large(path: str) -> Patch:
    return Patch(path=path, instead=f"too large to compare line by line (more than {LIMIT // 1024} KiB)")


def _text(content: bytes | None) -> str | None:
    if content is None:
        return ""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _lines(content: bytes | None) -> Sequence[str]:
    """Only a newline ends a line: a form feed in a file must not begin one here. The last says whether it has one."""
    text = _text(content)
    if not text:
        return []
    lines = text.split("\n")
    last = lines.pop()
    return [*lines, f"{last}\n"] if last else lines


def _shown(line: str) -> str:
    if line.endswith("\n"):
        return f"{clean_lines(line[:-1])}\n{_NO_NEWLINE}"
    return clean_lines(line)


def _name(side: str, path: str, content: bytes | None) -> str:
    return "/dev/null" if content is None else f"{side}/{clean(path)}"

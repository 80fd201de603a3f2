"""Paths inside an artifact: relative, with forward slashes, and safe to write out on any machine."""

import os
import re
import unicodedata
from collections.abc import Iterable

from svcctl.errors import Refused
from svcctl.text import clean

# Control characters, and those that reorder or break a line where the path is shown.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_NO_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")


def decoded(name: str) -> str:
    """A name that the file system gave, read as UTF-8 under any locale. Bytes that are none become lone surrogates."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def check_path(path: str, length: int) -> str | None:
    """What is wrong with the path of one file, in words, or None."""
    if len(path) > length:
        return f"is a path of {len(path):,} characters; limits.path_length allows {length:,}"
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            return "is not a name in UTF-8"
    if _HARMFUL.search(path):
        return "has a control character in its name"
    if "\\" in path:
        return "has a backslash in its name, which is a folder on other systems"
    if _NO_PATH.search(path):
        return "is not a plain relative path"
    return None


def refuse_twins(paths: Iterable[str]) -> None:
    """No two paths, nor the folders they are in, may differ by case or Unicode normalisation alone: on some file
    systems they are one file. Nor may one path be both a file and a folder."""
    taken: dict[str, str] = {}
    folders: set[str] = set()
    for path in paths:
        _take(taken, path, path)
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            _take(taken, folder, folder + "/")
            folder = folder.rpartition("/")[0]


def _take(taken: dict[str, str], path: str, shown: str) -> None:
    key = path.lower() if path.isascii() else _folded(path)
    other = taken.setdefault(key, shown)
    if other is not shown:
        raise Refused(
            f"{clean(other)} and {clean(shown)} differ {_difference(other, shown)}: on some systems they are one file",
            hint="rename one, or leave it out with `exclude`",
        )


def _difference(one: str, other: str) -> str:
    if one.rstrip("/") == other.rstrip("/"):
        return "only in that one is a folder"
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "only in how their letters are encoded (Unicode normalisation)"
    return "only by upper and lower case"


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())

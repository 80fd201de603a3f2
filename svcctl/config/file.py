"""services.toml as a file: where it is, its text, its TOML. Everything after this works on values."""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from svcctl.errors import ConfigError

NAME = "services.toml"
SIZE = 1_000_000
"""Bytes. tomllib needs about a second for this much."""
DEPTH = 64

_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")
_ESCAPE = "\\ starts an escape in double quotes; single quotes take it as it is"
_EXPLAINED = {
    "Cannot overwrite a value": "this key has a value already",
    "Illegal character '\\n'": "the line ends inside a string; it needs a closing quote",
    "Invalid hex value": _ESCAPE,
    "Invalid statement": "this is neither `key = value` nor a [table]",
    "Unescaped '\\' in a string": _ESCAPE,
    "Invalid value": "this is no value; strings need quotes",
}
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){100}""")
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def find(start: Path) -> Path | None:
    """The services.toml of `start` or of the nearest folder above."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if os.path.lexists(folder / NAME):
            return folder / NAME
    return None


def read(path: Path) -> str:
    """The text, without a byte order mark. Never waits: a pipe in the file's place is an error like any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_regular(path, os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(SIZE + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        hint = "`svcctl init` writes one; `-C DIR` names another folder"
        raise ConfigError([f"{path.name}: not found in {path.parent}"], hint=hint) from None
    except OSError as error:
        raise ConfigError([f"{path.name}: cannot be read: {error.strerror}"], hint=f"it is {path}") from error
    if len(content) > SIZE:  # it grew since its size was looked at
        raise _too_large(path, len(content))
    return _decode(path, content)


def parse(text: str, name: str = NAME) -> dict[str, Any]:
    """The TOML of `text`, or the one syntax error that ends it."""
    if long := _LONG_KEY.search(text):
        raise ConfigError([f"{_at(text, long.start(), name)}: a key of more than 100 parts"])
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax(str(error), text, name)]) from None
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError as error:  # of an integer with thousands of digits, which tomllib lets through
        raise ConfigError([f"{name}: holds an integer of thousands of digits"]) from error
    if _depth(content) > DEPTH:
        raise _too_deep(name)
    return content


def _check_regular(path: Path, status: os.stat_result) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise ConfigError([f"{path.name}: is {kind}, not a file"])
    if status.st_size > SIZE:
        raise _too_large(path, status.st_size)


def _too_large(path: Path, size: int) -> ConfigError:
    return ConfigError([f"{path.name}: is {size:,} bytes; {SIZE:,} is the limit"])


def _too_deep(name: str) -> ConfigError:
    return ConfigError([f"{name}: arrays and tables stand in each other more than {DEPTH} deep"])


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        byte = content[error.start]
        raise ConfigError([f"{path.name}:{line}:{column}: is not UTF-8 text: byte 0x{byte:02x}"]) from None


def _at(text: str, offset: int, name: str) -> str:
    return f"{name}:{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"


def _syntax(error: str, text: str, name: str) -> str:
    place = _PLACE.fullmatch(error)
    if not place:
        return f"{name}: {error}"
    what, line, column = place.groups()
    at = f"{name}:{line}:{column}" if line else _at(text, len(text.rstrip()), name)
    if twice := _TWICE.fullmatch(what):
        table = ".".join(part.strip(" '\"") for part in twice[1].split(",") if part.strip())
        return f"{at}: [{table}] stands here a second time"
    return f"{at}: {_EXPLAINED.get(what, what[:1].lower() + what[1:])}"


def _depth(content: dict[str, Any]) -> int:
    """Without recursion: dotted keys nest as deep as they are long."""
    depth = 0
    level: list[dict[str, Any] | list[Any]] = [content]
    while level:
        depth += 1
        inner = [item for table in level for item in (table.values() if isinstance(table, dict) else table)]
        level = [item for item in inner if isinstance(item, dict | list)]
    return depth

"""What this machine remembers of backends elsewhere: names for their URLs, the one that a checkout uses, tokens (in
`credentials`), commands that were sent and not answered, logs of what runs here."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from svcctl import wire
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.names import did_you_mean

LOCAL = "local"
"""The name of the folder beside services.toml."""
FILE = "backends.json"
CHOICE = "backend"
"""Of `.svcctl`: what `backend use` chose for this checkout."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


def configuration(environ: Mapping[str, str]) -> Path:
    """The user's folder for what is remembered until it is deleted."""
    return _of_user(environ, "XDG_CONFIG_HOME", ".config")


def state(environ: Mapping[str, str], url: str) -> Path:
    """The folder of one backend elsewhere: what a folder of its own would hold."""
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    return _of_user(environ, "XDG_STATE_HOME", ".local/state") / "backends" / name


def _of_user(environ: Mapping[str, str], variable: str, default: str) -> Path:
    said = environ.get(variable)
    return (Path(said) if said else Path(environ.get("HOME") or "/tmp") / default) / "svcctl"  # noqa: S108


# ---- names


def names(environ: Mapping[str, str]) -> dict[str, str]:
    path = configuration(environ) / FILE
    try:
        return wire.decode(path.read_bytes(), dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise Refused(f"{path}: {error}", hint="svcctl backend add writes it") from error


def add(environ: Mapping[str, str], name: str, url: str) -> None:
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise UsageError(
            f"{name!r} is no name for a backend", hint=f"small letters, digits and -; {LOCAL} is the folder beside"
        )
    _replace(configuration(environ) / FILE, wire.canonical(names(environ) | {name: url}))


def url_of(environ: Mapping[str, str], name: str) -> str:
    known = names(environ)
    if name not in known:
        raise NotFound(
            f"no backend {name!r} is known here",
            hint=did_you_mean(name, known),
            next=f"svcctl backend add {name if _NAME.fullmatch(name) else 'NAME'} URL",
        )
    return known[name]


# ---- the one that a checkout uses


def choice(beside: Path) -> str | None:
    """A URL, LOCAL, or None where nothing was chosen. `beside` is the folder of services.toml."""
    try:
        return (beside / ".svcctl" / CHOICE).read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # of the last, the store says more
        return None


def choose(beside: Path, chosen: str | None) -> None:
    folder = beside / ".svcctl"
    if chosen is None:
        (folder / CHOICE).unlink(missing_ok=True)
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text("*\n")
    _replace(folder / CHOICE, f"{chosen}\n".encode())


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}-{os.getpid()}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    making.replace(path)

"""Tokens of APIs, kept on this machine by the URL that each is for.

    SVCCTL_TOKEN     for CI: wins over all others, for whatever backend the command names
    the keyring      of the desktop or the system, where there is one
    a file           `tokens.json`, 0600, where there is none: a server, a container

A token is read only when something is sent to its API. keyring is imported only when neither the variable nor the file
has one. To look for the best of its backends takes it longer than all else that a command does: `keyrings.json` has the
one that kept a token, which is asked first.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from svcctl import tokens, wire
from svcctl.errors import Refused, UsageError
from svcctl.sealing.value import SecretValue

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

VARIABLE = "SVCCTL_TOKEN"
FILE = "tokens.json"
_RINGS = "keyrings.json"
_SERVICE = "svcctl"
_CHOSEN = "PYTHON_KEYRING_BACKEND"
_UNUSABLE = (ImportError, AttributeError, RuntimeError)
"""What keyring raises where there is no such backend, or not on this system."""

Where = Literal["variable", "keyring", "file"]


def checked(text: str, where: str) -> SecretValue:
    """Raises UsageError for what is no token: it would be shown to a server, and be of no use."""
    if not tokens.is_token(text):
        raise UsageError(f"{where} is not a token of svcctl", hint="one is svc_ and 49 letters and digits")
    return SecretValue(text)


def token(url: str, environ: Mapping[str, str], folder: Path) -> SecretValue | None:
    """`folder` is where the file is."""
    if text := environ.get(VARIABLE, "").strip():
        return checked(text, VARIABLE)
    kept = _read(folder / FILE).get(url) or _in_keyring(url, environ, folder)
    return checked(kept, f"what is kept for {url}") if kept else None


def keep(url: str, secret: SecretValue, folder: Path) -> Where:
    """In the keyring if there is one that keeps it, else in the file."""
    text = secret.reveal().decode()
    if ring := _kept_by(url, text):
        _note(folder / _RINGS, url, ring)
        _note(folder / FILE, url, None)
        return "keyring"
    _note(folder / _RINGS, url, None)
    _note(folder / FILE, url, text)
    return "file"


def forget(url: str, folder: Path) -> bool:
    """Whether there was one."""
    in_keyring = _forgotten_by_keyring(url)
    _note(folder / _RINGS, url, None)
    return _note(folder / FILE, url, None) or in_keyring


# ---- the keyring: a desktop's may be locked, absent, or a program that fails in ways of its own


def _chosen() -> "KeyringBackend":
    import keyring

    try:
        return keyring.get_keyring()
    except _UNUSABLE as error:
        raise Refused(f"the keyring that was chosen can't be used: {error}", hint=f"look at {_CHOSEN}") from error


def _in_keyring(url: str, environ: Mapping[str, str], folder: Path) -> str | None:
    from keyring.core import load_keyring
    from keyring.errors import KeyringError

    if (ring := _read(folder / _RINGS).get(url)) and _CHOSEN not in environ:
        with suppress(KeyringError, *_UNUSABLE):  # it went, or can't be used now
            if kept := load_keyring(ring).get_password(_SERVICE, url):
                return kept
    try:
        return _chosen().get_password(_SERVICE, url)
    except KeyringError:
        return None


def _kept_by(url: str, text: str) -> str | None:
    """The class of what keeps it now. Some accept everything and keep nothing; one asks several in turn."""
    from keyring.errors import KeyringError

    try:
        chosen = _chosen()
        chosen.set_password(_SERVICE, url, text)
        for ring in getattr(chosen, "backends", (chosen,)):
            if ring.get_password(_SERVICE, url) == text:
                return f"{type(ring).__module__}.{type(ring).__qualname__}"
    except KeyringError:
        pass
    return None


def _forgotten_by_keyring(url: str) -> bool:
    from keyring.errors import KeyringError

    try:
        ring = _chosen()
        if ring.get_password(_SERVICE, url) is None:
            return False
        ring.delete_password(_SERVICE, url)
    except KeyringError:
        return False
    return True


# ---- files, by URL


def _read(path: Path) -> dict[str, str]:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    try:
        return wire.decode(content, dict[str, str])
    except msgspec.MsgspecError as error:
        raise Refused(f"{path} is not what svcctl writes", hint="delete it, and log in again") from error


def _note(path: Path, url: str, text: str | None) -> bool:
    """Whether there was one before."""
    found = _read(path)
    before = found.pop(url, None)
    if before != text:
        _write(path, found if text is None else found | {url: text})
    return before is not None


def _write(path: Path, found: dict[str, str]) -> None:
    """Whole or not at all, and never readable by others, not for an instant."""
    folder = path.parent
    if not found:
        path.unlink(missing_ok=True)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = folder / f".{path.name}-{os.getpid()}"
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, 0o600)
        stream.write(wire.canonical(found))
        stream.flush()
        os.fsync(descriptor)
    making.replace(path)

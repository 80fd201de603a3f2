"""Tokens of APIs, kept on this machine by the URL that each is for.

    SVCCTL_TOKEN     for CI: wins over all others, for whatever backend the command names
    the keyring      of the desktop or the system, where there is one
    a file           `tokens.json`, 0600, where there is none: a server, a container

A token is read only when something is sent to its API. keyring is imported only when neither the variable nor the file
has one: it takes a tenth of a second.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from svcctl import tokens, wire
from svcctl.errors import Refused, UsageError
from svcctl.sealing.value import SecretValue

VARIABLE = "SVCCTL_TOKEN"
FILE = "tokens.json"
_SERVICE = "svcctl"

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
    kept = _in_file(folder).get(url) or _in_keyring(url)
    return checked(kept, f"what is kept for {url}") if kept else None


def keep(url: str, secret: SecretValue, folder: Path) -> Where:
    """In the keyring if there is one that keeps it, else in the file."""
    text = secret.reveal().decode()
    if _keyring_keeps(url, text):
        _write(folder, {name: each for name, each in _in_file(folder).items() if name != url})
        return "keyring"
    _write(folder, _in_file(folder) | {url: text})
    return "file"


def forget(url: str, folder: Path) -> bool:
    """Whether there was one."""
    found = _in_file(folder)
    in_keyring = _forgotten_by_keyring(url)
    if url not in found:
        return in_keyring
    del found[url]
    _write(folder, found)
    return True


# ---- the keyring: a desktop's may be locked, absent, or a program that fails in ways of its own


def _in_keyring(url: str) -> str | None:
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(_SERVICE, url)
    except KeyringError:
        return None


def _keyring_keeps(url: str, text: str) -> bool:
    """Some accept everything and keep nothing."""
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(_SERVICE, url, text)
        return keyring.get_password(_SERVICE, url) == text
    except KeyringError:
        return False


def _forgotten_by_keyring(url: str) -> bool:
    import keyring
    from keyring.errors import KeyringError

    try:
        if keyring.get_password(_SERVICE, url) is None:
            return False
        keyring.delete_password(_SERVICE, url)
    except KeyringError:
        return False
    return True


# ---- the file


def _in_file(folder: Path) -> dict[str, str]:
    path = folder / FILE
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


def _write(folder: Path, found: dict[str, str]) -> None:
    """Whole or not at all, and never readable by others, not for an instant."""
    path = folder / FILE
    if not found:
        path.unlink(missing_ok=True)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = folder / f".{FILE}-{os.getpid()}"
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, 0o600)
        stream.write(wire.canonical(found))
        stream.flush()
        os.fsync(descriptor)
    making.replace(path)

"""The master key: read from the environment or from its file, made where there is none, replaced."""

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from svcctl.errors import Damage, Refused
from svcctl.sealing.value import SecretValue

VARIABLE = "SVCCTL_SECRET_KEY"
_SIZE = 32
_ID_SIZE = 4


class MasterKey:
    """`id`, 8 hex digits, names the key without telling it; `origin` says where it came from."""

    def __init__(self, key: SecretValue, origin: str) -> None:
        self._key = key
        self.origin = origin
        self.id = self.derive(b"key id")[:_ID_SIZE].hex()

    def derive(self, purpose: bytes) -> bytes:
        """A key of 32 bytes for one purpose."""
        return hmac.new(self._key.reveal(), b"svcctl:1:" + purpose, hashlib.sha256).digest()

    def encoded(self) -> SecretValue:
        """Base64, as `SVCCTL_SECRET_KEY` and the file hold it."""
        return SecretValue(base64.b64encode(self._key.reveal()))

    def __repr__(self) -> str:
        return f"<master key {self.id} from {self.origin}>"


def new_master_key(origin: str) -> MasterKey:
    return MasterKey(SecretValue(secrets.token_bytes(_SIZE)), origin)


def parse_master_key(encoded: SecretValue, origin: str) -> MasterKey | None:
    """None unless it is base64 of 32 bytes."""
    try:
        key = SecretValue(base64.b64decode(encoded.reveal().strip(), validate=True))
    except binascii.Error:
        return None
    return MasterKey(key, origin) if len(key.reveal()) == _SIZE else None


def present_master_key(path: Path, environ: Mapping[str, str]) -> MasterKey | None:
    """The key of this store; None where none was ever made. The variable wins over the file at `path`."""
    if VARIABLE in environ:
        return _from_variable(environ)
    return KeyFile(path).read()


def obtain_master_key(path: Path, environ: Mapping[str, str]) -> MasterKey:
    """The key of this store, made now if there is none."""
    if VARIABLE in environ:
        return _from_variable(environ)
    return KeyFile(path).obtain()


def _from_variable(environ: Mapping[str, str]) -> MasterKey:
    value = SecretValue(environ[VARIABLE].encode(errors="surrogateescape"))
    key = parse_master_key(value, VARIABLE)
    if key is None:
        raise Refused(
            f"{VARIABLE} must be 32 bytes in base64",
            hint="without the variable, the store's own secret.key is used",
            next=f"export {VARIABLE}=$(head -c 32 /dev/urandom | base64)",
        )
    return key


class KeyFile:
    """`secret.key`: base64, mode 0600. Written beside itself, made durable, then renamed: it is never seen half
    written, two processes that need one make one, and a kill leaves at most a `.new` that the next one overwrites."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(path.name + ".new")
        self._next = path.with_name(path.name + ".next")
        self._staged_id: str | None = None

    def read(self) -> MasterKey | None:
        return _read(self.path)

    def obtain(self) -> MasterKey:
        return self.read() or self._make(self.path)

    def staged(self) -> MasterKey | None:
        return _read(self._next)

    def stage(self) -> MasterKey:
        """The key that a rotation changes to, durable under `secret.key.next`; the one of an earlier, unfinished
        rotation if there is one."""
        staged = self.staged() or self._make(self._next)
        self._staged_id = staged.id
        return staged

    def adopt(self) -> None:
        """Puts the key that `stage` returned in the place of the present one, once the store is sealed with it. The
        former is gone."""
        if self._staged_id:
            self.settle(self._staged_id)

    def settle(self, key_id: str) -> None:
        """Ends a rotation that was killed: the store is known to be sealed with `key_id`. A staged key that is another
        stays, since the transaction that seals with it may be about to commit in another process."""
        with _locked(self.path.parent) as folder:
            staged = self.staged()
            if staged and staged.id == key_id:
                self._next.replace(self.path)
                os.fsync(folder)

    def _make(self, target: Path) -> MasterKey:
        with _locked(self.path.parent) as folder:
            if key := _read(target):
                return key
            key = new_master_key(str(target))
            _write(self._new, key.encoded().reveal() + b"\n")
            self._new.replace(target)
            os.fsync(folder)
            return key


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)  # an umask such as 0777 would leave a key that nobody can read
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> MasterKey | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise Damage(f"{path} is not a file", hint="it holds the key to the store's secrets; restore it")
        if mode & 0o077:
            raise Refused(f"{path} is open to other users of this machine", next=f"chmod 600 {path}")
        key = parse_master_key(SecretValue(file.read(4096)), str(path))
    if key is None:
        raise Damage(
            f"{path} does not hold 32 bytes in base64",
            hint=f"the store's secrets open with the key that was there alone: restore the file, or set {VARIABLE}",
        )
    return key

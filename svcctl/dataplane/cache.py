"""What a data plane keeps on its own disk, so that it starts and serves without the backend.

`artifacts/<digest>/` holds an artifact's files and its manifest, complete or not there at all: they are written
elsewhere and renamed. `state.json` is the landscape as it was last seen. `secrets/` has a file for each environment:
the values that its head needs and no others, sealed under `cache.key`. Each file is replaced whole. All of it can be
deleted while nothing serves: it is fetched again.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from svcctl import digest, wire
from svcctl.backend.base import Backend, Followed
from svcctl.bundle.unpack import unpack
from svcctl.digest import Digest
from svcctl.errors import Damage, Refused
from svcctl.model import EnvironmentId, Manifest, Model
from svcctl.sealing import Sealer, SecretValue, obtain_master_key

_AGE = 86_400.0
"""Seconds that an artifact which nothing runs is kept: for a roll back."""


class Files(Model):
    """An artifact on this disk."""

    folder: Path
    manifest_file: Path
    manifest: Manifest


class Cache:
    """Raises OSError where the disk does; Refused where there can be none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._artifacts = folder / "artifacts"
        self._secrets = folder / "secrets"
        try:
            for each in (folder, self._artifacts, self._secrets):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"the cache {folder}: {error.strerror}", hint="--cache names another folder") from error
        self._known: dict[Digest, Files] = {}
        self._sealer: Sealer | None = None

    # ---- artifacts

    def files(self, code: Digest, backend: Backend | None) -> Files:
        """What is not there is fetched, every byte hashed as it is written; what is there is hashed once in this
        process, and fetched again where it is not what it should be. Raises Damage."""
        known = self._known.get(code)
        if known is None or not known.manifest_file.exists():
            place = self._artifacts / code
            try:
                known = _found(code, place)
            except Damage:
                if backend is None:
                    raise
                self._fetch(code, backend, place)
                known = _found(code, place)
            self._known[code] = known
        return known

    def _fetch(self, code: Digest, backend: Backend, place: Path) -> None:
        manifest = backend.manifest(code)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=self._artifacts))
        try:
            unpack(manifest, backend.opening(manifest), making / "files")
            for file in manifest.files:
                (making / "files" / file.path).chmod(0o555 if file.executable else 0o444)
            (making / "manifest.json").write_bytes(wire.canonical(manifest))
            self._publish(making, place)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _publish(self, making: Path, place: Path) -> None:
        """It appears whole; what was there and was damaged goes with the leftovers."""
        with suppress(FileNotFoundError):
            place.rename(tempfile.mkdtemp(prefix=".damaged-", dir=self._artifacts))
        try:
            making.rename(place)
        except OSError:  # another data plane on this cache was faster
            if not place.exists():
                raise

    def sweep(self, needed: Collection[Digest]) -> int:
        """Removes artifacts that nothing has needed for a day and no process runs, and leftovers of killed ones."""
        gone = 0
        for place in self._artifacts.iterdir():
            with suppress(FileNotFoundError):  # another data plane on this cache sweeps too
                if place.name in needed:
                    os.utime(place)
                elif time.time() - place.stat().st_mtime > _AGE and not _is_held(place / "manifest.json"):
                    self._known.pop(Digest(place.name), None)
                    shutil.rmtree(place, ignore_errors=True)
                    gone += 1
        return gone

    # ---- state

    def keep(self, followed: Followed) -> None:
        _replace(self.folder / "state.json", wire.canonical(followed))

    def kept(self) -> Followed | None:
        """None where there is none that can be read: then nothing is served until the backend answers."""
        try:
            return wire.decode((self.folder / "state.json").read_bytes(), Followed)
        except (OSError, msgspec.MsgspecError):
            return None

    # ---- secrets

    def reveal(
        self, environment: EnvironmentId, secrets: Mapping[str, str], backend: Backend | None
    ) -> Mapping[str, SecretValue]:
        """`secrets`: fingerprints by name. As they were kept, else from the backend, and kept; those that are not asked
        for are forgotten."""
        if not secrets and not self._secrets_of(environment).exists():
            return {}
        sealed = kept = self._sealed(environment)
        try:
            known = self._opened(environment, secrets, sealed)
        except (Refused, Damage, ValueError):  # kept under a key that is not there any more, or altered
            sealed, known = {}, {}
        if secrets.keys() - known.keys():
            if backend is None:
                raise Damage("its secrets are not in the cache, and the store can't be reached")
            known = dict(backend.reveal(environment, secrets))
            sealed = sealed | {
                _key((name, secrets[name])): self._seal().seal(environment, name, value).hex()
                for name, value in known.items()
            }
        wanted = {key: sealed[key] for key in map(_key, secrets.items())}
        if wanted != kept:
            self._keep_sealed(environment, wanted)
        return known

    def _opened(
        self, environment: EnvironmentId, secrets: Mapping[str, str], sealed: Mapping[str, str]
    ) -> dict[str, SecretValue]:
        """Those that are there."""
        return {
            name: self._seal().open(environment, name, bytes.fromhex(sealed[key]))
            for name, print_ in secrets.items()
            if (key := _key((name, print_))) in sealed
        }

    def forget(self, environments: Collection[EnvironmentId]) -> None:
        """The secrets of all but these."""
        kept = {self._secrets_of(each).name for each in environments}
        for path in self._secrets.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _secrets_of(self, environment: EnvironmentId) -> Path:
        return self._secrets / f"{digest.of_blob(environment.encode())[:32]}.json"

    def _sealed(self, environment: EnvironmentId) -> dict[str, str]:
        try:
            return wire.decode(self._secrets_of(environment).read_bytes(), dict[str, str])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _keep_sealed(self, environment: EnvironmentId, sealed: Mapping[str, str]) -> None:
        if sealed:
            _replace(self._secrets_of(environment), wire.canonical(sealed))
        else:
            self._secrets_of(environment).unlink(missing_ok=True)

    def _seal(self) -> Sealer:
        """The key of this cache alone: the store's master key never leaves the store."""
        if self._sealer is None:
            self._sealer = Sealer(obtain_master_key(self.folder / "cache.key", {}), "cache", "")
        return self._sealer


def _key(secret: tuple[str, str]) -> str:
    return "/".join(secret)


def _found(code: Digest, place: Path) -> Files:
    file = place / "manifest.json"
    try:
        content = file.read_bytes()
        if digest.of("artifact", content) != code:
            raise Damage(f"{file} is not that of artifact {digest.short(code)}")
        manifest = wire.decode(content, Manifest)
        for each in manifest.files:
            if digest.of_blob((place / "files" / each.path).read_bytes()) != each.blob:
                raise Damage(f"{place / 'files' / each.path} does not hold the bytes that were deployed")
    except FileNotFoundError as error:
        raise Damage(f"artifact {digest.short(code)} is not in the cache, and the store can't be reached") from error
    return Files(folder=place / "files", manifest_file=file, manifest=manifest)


def _is_held(manifest: Path) -> bool:
    """Whether a worker runs it (`confinement.hold`)."""
    try:
        descriptor = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _replace(place: Path, content: bytes) -> None:
    """Whole, also after a power cut."""
    descriptor, path = tempfile.mkstemp(prefix=".", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(path).replace(place)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise

"""What a data plane keeps on its own disk, so that it starts and serves without the backend.

`artifacts/<digest>/` holds an artifact's files and its manifest, complete or not there at all: they are written
elsewhere and renamed. `state.json` is the landscape as it was last seen, `secrets.json` the values it needs, sealed
under `cache.key`. Each is replaced whole. All of it can be deleted: it is fetched again.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from svcctl import digest, wire
from svcctl.backend.base import Backend, Followed
from svcctl.bundle.unpack import unpack
from svcctl.digest import Digest
from svcctl.errors import Damage, SvcctlError
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
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._artifacts = folder / "artifacts"
        for each in (folder, self._artifacts):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: dict[Digest, Files] = {}
        self._sealed: dict[str, str] = {}
        """Secrets by `environment/name/fingerprint`."""
        self._sealer: Sealer | None = None

    # ---- artifacts

    def files(self, code: Digest, backend: Backend | None) -> Files:
        """Fetches what is not there; every byte is hashed as it is written. Without a backend: NotFound or Damage."""
        known = self._known.get(code)
        if known is None or not known.manifest_file.exists():
            place = self._artifacts / code
            if not place.exists():
                if backend is None:
                    raise Damage(f"artifact {digest.short(code)} is not in the cache, and the store can't be reached")
                self._fetch(code, backend, place)
            known = self._known[code] = self._found(code, place)
        return known

    def _found(self, code: Digest, place: Path) -> Files:
        file = place / "manifest.json"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise Damage(f"{file}: {error.strerror}", hint=f"delete {place}: it is fetched again") from error
        if digest.of("artifact", content) != code:
            raise Damage(f"{file} is not that of artifact {digest.short(code)}", hint=f"delete {place}")
        return Files(folder=place / "files", manifest_file=file, manifest=wire.decode(content, Manifest))

    def _fetch(self, code: Digest, backend: Backend, place: Path) -> None:
        manifest = backend.manifest(code)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=self._artifacts))
        try:
            unpack(manifest, backend.open_blob, making / "files")
            for file in manifest.files:
                (making / "files" / file.path).chmod(0o555 if file.executable else 0o444)
            (making / "manifest.json").write_bytes(wire.canonical(manifest))
            try:
                making.rename(place)
            except OSError:  # another data plane on this cache was faster
                if not place.exists():
                    raise
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def sweep(self, needed: Collection[Digest]) -> int:
        """Removes artifacts that nothing has needed for a day, and leftovers of killed processes."""
        gone = 0
        for place in self._artifacts.iterdir():
            if place.name in needed:
                os.utime(place)
            elif time.time() - place.stat().st_mtime > _AGE:
                self._known.pop(Digest(place.name), None)
                shutil.rmtree(place, ignore_errors=True)
                gone += 1
        return gone

    # ---- state

    def keep(self, followed: Followed) -> None:
        self._replace("state.json", wire.canonical(followed))

    def kept(self) -> Followed | None:
        """None where there is none that can be read: then nothing is served until the backend answers."""
        try:
            return wire.decode((self.folder / "state.json").read_bytes(), Followed)
        except (OSError, msgspec.MsgspecError):
            return None

    def _replace(self, name: str, content: bytes) -> None:
        descriptor, path = tempfile.mkstemp(prefix=f".{name}-", dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(path).replace(self.folder / name)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise

    # ---- secrets

    def reveal(
        self, environment: EnvironmentId, secrets: Mapping[str, str], backend: Backend | None
    ) -> dict[str, SecretValue]:
        """From the backend, and kept; without one, as they were kept."""
        if not self._sealed:
            self._sealed = self._kept_secrets()
        wanted = {name: f"{environment}/{name}/{print_}" for name, print_ in secrets.items()}
        if any(key not in self._sealed for key in wanted.values()):
            if backend is None:
                raise Damage("its secrets are not in the cache, and the store can't be reached")
            for name, value in backend.reveal(environment, secrets).items():
                self._sealed[wanted[name]] = self._seal().seal(environment, name, value).hex()
            self._replace("secrets.json", wire.canonical(self._sealed))
        return {
            name: self._seal().open(environment, name, bytes.fromhex(self._sealed[key])) for name, key in wanted.items()
        }

    def _kept_secrets(self) -> dict[str, str]:
        try:
            return wire.decode((self.folder / "secrets.json").read_bytes(), dict[str, str])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _seal(self) -> Sealer:
        """The key of this cache alone: the store's master key never leaves the store."""
        if self._sealer is None:
            self._sealer = Sealer(obtain_master_key(self.folder / "cache.key", {}), "cache", "")
        return self._sealer


def without_backend(error: SvcctlError) -> str:
    return f"the store can't be reached ({error.message}); serving what was last seen of it"

"""Requirements, installed by uv into a folder of the cache and taken from there as often as they are needed.

An installation is made in a temporary folder, stripped of what differs from machine to machine, sealed (the digest of
its file names and sizes) and renamed. One that was killed halfway has no name; one that lost files since fails its
seal; both are made anew. A lock is held meanwhile, so any temporary folder found under it is a dead one's.
"""

import fcntl
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from svcctl.bundle.allowance import Allowance
from svcctl.bundle.paths import check_path, decoded
from svcctl.bundle.place import Place, identity
from svcctl.bundle.requirements import Needed, check_lines, has_hashes
from svcctl.bundle.target import uv_platform
from svcctl.errors import Refused
from svcctl.progress import Progress
from svcctl.text import clean, clean_lines, mask_urls

FOLDER = "python_modules"
"""Of the artifact's root; named as Cloudflare's Python Workers name it."""

_NOISE = frozenset(
    {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
)  # of *.dist-info
_LAST_LINES = 12
# pip's variables, which uv does not read, and uv's for the same.
_PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_NO_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
}


def install(needed: Needed, cache: Path, allowance: Allowance, progress: Progress) -> dict[str, Place]:
    """The installed files by artifact path."""
    places = _places(installed(needed, cache, progress))
    for path, place in places.items():
        if wrong := check_path(path, allowance.path_length):
            raise Refused(f"{clean(place.shown)} {wrong}")
        allowance.take_file(place.shown, place.size)
    return places


def installed(needed: Needed, cache: Path, progress: Progress) -> Path:
    """The folder that holds what is installed, made where it is not there."""
    uv = _Uv(needed)
    made = cache / uv.key
    if not _is_sealed(made):
        try:
            _make_once(made, uv, progress)
        except OSError as error:
            raise Refused(f"{cache} can't be written: {error.strerror}", hint="requirements are kept there") from error
    return made / "files"


def make_private(cache: Path) -> None:
    try:
        for folder in (*reversed(cache.parents), cache):  # `parents=True` would make those above by the umask alone
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the folder {cache} can't be made: {error.strerror}", hint="it holds what makes deploys quick"
        ) from error


def _make_once(made: Path, uv: "_Uv", progress: Progress) -> None:
    made.parent.mkdir(mode=0o700, exist_ok=True)
    with _locked(made.parent):
        if _is_sealed(made):
            return
        progress.start("installing requirements")
        try:
            _make(made, uv)
        finally:
            progress.done()


def _make(made: Path, uv: "_Uv") -> None:
    for leftover in (*made.parent.glob(".making-*"), *made.parent.glob(made.name)):
        shutil.rmtree(leftover)
    making = made.with_name(f".making-{made.name}")
    files = making / "files"
    files.mkdir(parents=True, mode=0o700)
    uv.install(making / "work", files)
    shutil.rmtree(making / "work")
    _strip(files)
    (making / "seal").write_text(_seal(files))
    making.rename(made)


class _Uv:
    def __init__(self, needed: Needed) -> None:
        self._needed = needed
        self._program = _find_uv()
        self._environment = _environment(os.environ)
        version = self._run(["--version"], None)
        self.key = needed.determined_by(uv_platform(), version)

    def install(self, work: Path, target: Path) -> None:
        """`work` is filled with copies of what the requirements are made of."""
        for path, content in self._needed.files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(content)
        start = work / self._needed.start
        listed = self._exported(start) if self._needed.locked else start
        self._run(
            [
                "pip", "install", "--quiet", "--requirements", listed.name, "--target", str(target),
                "--only-binary", ":all:", "--link-mode", "copy", "--no-python-downloads", "--python", sys.executable,
                "--python-version", self._needed.python,
                *(["--python-platform", platform] if (platform := uv_platform()) else []),
                *(["--require-hashes"] if has_hashes(listed.read_bytes()) else []),
            ],
            start.parent,
        )  # fmt: skip

    def _exported(self, lock: Path) -> Path:
        listed = lock.with_name("exported.txt")
        self._run(
            [
                "export", "--quiet", "--frozen", "--offline", "--no-default-groups", "--no-emit-project",
                "--no-python-downloads", "--format", "requirements.txt", "--no-header", "--no-annotate",
                "--output-file", listed.name,
            ],
            lock.parent,
        )  # fmt: skip
        check_lines(listed.read_bytes(), "uv.lock, exported")
        return listed

    def _run(self, arguments: list[str], folder: Path | None) -> str:
        command = [self._program, *arguments, "--color", "never", "--no-progress"]
        try:
            done = subprocess.run(command, cwd=folder, env=self._environment, stdin=subprocess.DEVNULL,
                                  capture_output=True, check=False)  # fmt: skip
        except OSError as error:
            raise Refused(f"{self._program} can't be started: {error.strerror}") from error
        if done.returncode:
            said = mask_urls(clean_lines(done.stderr.decode(errors="replace"))).strip().splitlines()
            last = "\n".join(f"    {line}" for line in said[-_LAST_LINES:])
            raise Refused(f"uv could not install the requirements in {clean(self._needed.shown)}:\n{last}")
        return done.stdout.decode(errors="replace").strip()


def _find_uv() -> str:
    if found := shutil.which("uv"):
        return found
    try:
        program: str = importlib.import_module("uv").find_uv_bin()
    except (ImportError, FileNotFoundError) as error:
        raise Refused("requirements are installed with uv, which was not found", next="pip install uv") from error
    return program


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Without what would tie uv to a virtual environment or make its Python behave differently."""
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith(("PYTHON", "CONDA")) and name != "VIRTUAL_ENV"
    }
    return {_PIP_TO_UV[name]: value for name, value in kept.items() if name in _PIP_TO_UV} | kept


def _strip(files: Path) -> None:
    """Off with what installing leaves behind: scripts with this machine's paths, receipts, byte code."""
    shutil.rmtree(files / "bin", ignore_errors=True)
    (files / ".lock").unlink(missing_ok=True)
    for compiled in list(files.rglob("__pycache__")):
        shutil.rmtree(compiled)
    for receipt in files.glob("*.dist-info/*"):
        if receipt.name in _NOISE:
            receipt.unlink()


def _places(files: Path) -> dict[str, Place]:
    """Without the byte code that running them from here leaves behind."""
    found = {}
    for folder, below, names in os.walk(files):
        if "__pycache__" in below:
            below.remove("__pycache__")
        for name in names:
            file = os.path.join(folder, name)  # noqa: PTH118  # thousands of times
            path = f"{FOLDER}/{decoded(os.path.relpath(file, files))}"
            found[path] = Place(file, identity(os.lstat(file)), path, own=False)
    return found


def _seal(files: Path) -> str:
    lines = [f"{place.size} {path}" for path, place in sorted(_places(files).items())]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _is_sealed(made: Path) -> bool:
    try:
        return (made / "seal").read_text() == _seal(made / "files")
    except FileNotFoundError:
        return False


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    descriptor = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

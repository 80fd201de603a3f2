"""Projects and stores of a given size."""

import io
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from svcctl import commands, digest, wire
from svcctl.backend.store import Store
from svcctl.digest import Digest
from svcctl.model import Block, Change, Code, File, Layer, Manifest, Project, ServiceFile

WORKER = b"async def fetch(request, env, ctx):\n    ...\n"


class MadeArtifact:
    """An artifact from bytes in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._content = {digest.of_blob(content): content for content in files.values()}
        self.manifest = Manifest(
            main="worker.py",
            files=tuple(
                File(path=path, blob=digest.of_blob(content), size=len(content))
                for path, content in sorted(files.items())
            ),
        )
        self.content = wire.canonical(self.manifest)
        self.digest = digest.of("artifact", self.content)

    def open(self, blob: Digest) -> io.BytesIO:
        return io.BytesIO(self._content[blob])


def project(services: Sequence[str]) -> Project:
    files = {name: ServiceFile(base=Block(layer=Layer(vars={"LOG_LEVEL": "info"}))) for name in services}
    return Project(name="bench", domain="localhost", default_environment="staging", services=files)


def deploy(
    store: Store, made: Project, files: Mapping[str, Mapping[str, bytes]], environment: str = "staging"
) -> Change:
    code = {}
    for service, content in files.items():
        artifact = MadeArtifact(content)
        store.upload(artifact)
        code[service] = Code(digest=artifact.digest, requires=made.services[service].requires)
    return store.apply(
        commands.Deploy(id=commands.new_id(), project=made, environment=environment, services=tuple(code), code=code)
    )


def tree(folder: Path, files: int, size: int) -> Path:
    """A service of so many files of `size` bytes, all different, in folders of 100."""
    source = folder / "app"
    source.mkdir(parents=True)
    (source / "worker.py").write_bytes(WORKER)
    for number in range(files - 1):
        part = source / f"d{number // 100:03}"
        part.mkdir(exist_ok=True)
        (part / f"f{number:05}.txt").write_bytes(f"{number:08}".encode() * (size // 8))
    (folder / "services.toml").write_text(
        'project = "bench"\ndefault_environment = "staging"\n\n[services.app]\nmain = "app/worker.py"\n'
    )
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)

"""A project, a backend and a clock, spoken to in the project's own words.

    scene.deploy(shop="a1")                       new code for shop, to the default environment
    scene.promote("staging", "production")
    scene.vars("production", shop={"LOG": "debug"})
    scene.rollback()

Code is told apart by its text: `a1` is an artifact of one file that holds it.
"""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from svcctl import commands, config, digest, reference, wire
from svcctl.backend.base import Backend, Filter
from svcctl.digest import Digest
from svcctl.model import Change, Code, Commit, File, Manifest, Project, Settings, Version

ADA = "Ada <ada@example.com>"
START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

SHOP_AND_AUTH = """
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"
vars = { ISSUER = "id" }

[services.shop]
main = "shop/worker.py"
vars = { LOG = "info" }
bindings.AUTH = { service = "auth" }
environments.staging = {}
environments.production.vars.LOG = "warn"
"""


class Clock:
    """Goes on by a second with every command, unless it is set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class People:
    """Who types. One at a time."""

    def __init__(self) -> None:
        self.typing = ADA

    def __call__(self) -> str:
        return self.typing


class Bundle:
    """An artifact of a few files."""

    def __init__(self, files: dict[str, str], main: str = "worker.py") -> None:
        contents = {path: text.encode() for path, text in sorted(files.items())}
        self._blobs = {digest.of_blob(content): content for content in contents.values()}
        self.manifest = Manifest(
            main=main,
            files=tuple(
                File(path=path, blob=digest.of_blob(content), size=len(content)) for path, content in contents.items()
            ),
        )
        self.content = wire.canonical(self.manifest)
        self.digest = digest.of("artifact", self.content)

    def open(self, blob: Digest) -> io.BytesIO:
        return io.BytesIO(self._blobs[blob])


def bundle(text: str) -> Bundle:
    return Bundle({"worker.py": text})


class Scene:
    def __init__(self, backend: Backend, clock: Clock, people: People, file: str = SHOP_AND_AUTH) -> None:
        self.backend = backend
        self.clock = clock
        self.people = people
        self.project: Project
        self.write_file(file)

    def write_file(self, text: str) -> None:
        """services.toml as it is from here on."""
        self.project = config.load_text(text).as_sent()

    def edit_file(self, old: str, new: str, text: str = SHOP_AND_AUTH) -> None:
        assert old in text
        self.write_file(text.replace(old, new))

    # ---- what is typed

    def deploy(self, environment: str | None = None, /, commit: str | None = None, **words: Any) -> Change:
        """Words that name services of the file are their code; all others are options of Deploy."""
        texts = {word: words.pop(word) for word in tuple(words) if word in self.project.services}
        code = {service: self.code(service, text, commit) for service, text in texts.items()}
        options = {"services": tuple(texts) or None} | words
        where = environment or self.project.default_environment or "staging"
        return self.do(commands.Deploy, environment=where, code=code, **options)

    def code(self, service: str, text: str, commit: str | None = None) -> Code:
        """Uploaded, as the command line would."""
        made = bundle(text)
        self.backend.upload(made)
        found = Commit(sha=commit, branch="main", subject=f"make {text}") if commit else None
        return Code(digest=made.digest, requires=self.project.services[service].requires, commit=found)

    def promote(self, source: str, target: str, **options: Any) -> Change:
        return self.do(commands.Promote, source=source, target=target, **options)

    def rollback(self, environment: str = "production", **options: Any) -> Change:
        return self.do(commands.RollBack, environment=environment, **options)

    def vars(self, environment: str, /, **values: dict[str, Any]) -> Change:
        """Of one service: `vars("staging", shop={"LOG": "debug"})`."""
        ((service, named),) = values.items()
        return self.do(commands.Configure, environment=environment, services=(service,), vars=named)

    def unset(self, environment: str, service: str, *names: str) -> Change:
        return self.do(commands.Configure, environment=environment, services=(service,), unset_vars=names)

    def secret(self, place: str, name: str, value: str) -> Change:
        service, _, environment = place.partition("/")
        sealed = self.backend.seal(service, environment, name, value.encode())
        return self.do(commands.Configure, environment=environment, services=(service,), secrets=(sealed,))

    def clone(self, source: str, target: str, **options: Any) -> Change:
        return self.do(commands.Clone, source=source, target=target, **options)

    def create(self, environment: str, **options: Any) -> Change:
        return self.do(commands.CreateEnvironment, environment=environment, **options)

    def rename(self, old: str, new: str, **options: Any) -> Change:
        return self.do(commands.Rename, old=old, new=new, **options)

    def delete(self, environment: str, **options: Any) -> Change:
        return self.do(commands.DeleteEnvironment, environment=environment, **options)

    def tag(self, ref: str, name: str, **options: Any) -> Change:
        return self.do(commands.TagVersion, reference=ref, name=name, **options)

    def protect(self, environment: str, *, on: bool = True, **options: Any) -> Change:
        return self.do(commands.Protect, environment=environment, on=on, **options)

    def routes(self, place: str, *add: str, remove: tuple[str, ...] = ()) -> Change:
        service, _, environment = place.partition("/")
        return self.do(commands.Route, environment=environment, services=(service,), add=add, remove=remove)

    def ask(self, kind: type[commands.Base], **fields: Any) -> Any:
        """The command, not yet sent."""
        self.clock.now += timedelta(seconds=1)
        of_store = issubclass(kind, commands.CreateToken | commands.RevokeToken)
        return kind(id=commands.new_id(), project=commands.NO_PROJECT if of_store else self.project, **fields)

    def do(self, kind: type[commands.Base], **fields: Any) -> Change:
        return self.backend.apply(self.ask(kind, **fields))

    def planned(self, kind: type[commands.Base], **fields: Any) -> Any:
        """The command with the heads it was planned on, as the command line sends it."""
        command = self.ask(kind, **fields)
        plan = self.backend.plan(command)
        known: dict[str, Any] = {"expect": plan.expect, "planned": True}
        if isinstance(command, commands.Promote):
            known["sources"] = plan.sources
        return replace(command, **known)

    # ---- what is there

    def version(self, ref: str) -> Version:
        return self.backend.version(reference.parse(ref))

    def settings(self, ref: str) -> Settings:
        return self.backend.settings(self.version(ref).settings.digest)

    def head(self, place: str) -> int | None:
        service, _, name = place.partition("/")
        return self.backend.environment(service, name).head

    def text(self, ref: str) -> str | None:
        """The code of a version, read from its blobs."""
        code = self.version(ref).code
        if code is None:
            return None
        (file,) = self.backend.manifest(code.digest).files
        stream = self.backend.open_blob(file.blob)
        try:
            return stream.read().decode()
        finally:
            stream.close()

    def numbers(self, place: str) -> list[int]:
        found = self.backend.history(self.project.name, reference.parse(place), filter=Filter(), limit=1000)
        return [version.number for version in found.versions]

    def newest_change(self) -> int:
        return self.backend.wait(after=1 << 60, timeout=0)

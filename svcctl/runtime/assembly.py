"""What a worker process is told to run: the parts of one deployment, with everything they reach resolved.

The data plane makes it from the ledger, `svcctl dev` from the working tree, `svcctl call` from stored versions.
"""

import msgspec

from svcctl.digest import Digest
from svcctl.model import Model, Value


class Secrets(Model):
    """Revealed values, by name. They travel to a worker process over a socket, and nowhere else."""

    values: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<{len(self.values)} secrets>"

    __str__ = __repr__


class ToService(Model, tag_field="kind", tag="service"):
    """Another part of the same assembly, or the same one."""

    place: str
    """`auth/production`"""
    entrypoint: str | None = None
    """A class of its main module; None: the default handler."""


class ToNamespace(Model, tag_field="kind", tag="kv"):
    namespace: str
    """Names one namespace in the whole store: no two lives of an environment share one."""


class ToVersion(Model, tag_field="kind", tag="version_metadata"):
    id: str
    """`shop/production@12`"""
    tag: str
    """Empty where it has none."""
    timestamp: str


class ToNothing(Model, tag_field="kind", tag="nothing"):
    """Something that can't be reached: using it raises an error that says `why`."""

    why: str


Reach = ToService | ToNamespace | ToVersion | ToNothing


class Part(Model):
    """One environment of one service."""

    place: str
    """`shop/production`: the name of the part in its assembly."""
    version: int
    """0 for a working tree."""
    folder: str
    """Absolute: the root of the service's files, laid out as in its artifact."""
    main: str
    """As in its manifest: `worker.py`, or `app.py:app`."""
    code: Digest | None = None
    """The artifact. None for a working tree."""
    manifest: str | None = None
    """The path of the artifact's manifest (canonical JSON): sources are hashed again when they are loaded. None for a
    working tree."""
    beside: dict[str, str] = {}
    """Top-level names that lie elsewhere, with their folders: those of `with`, for a working tree."""
    vendored: str | None = None
    """Where installed requirements lie, if not in `python_modules` of `folder`."""
    vars: dict[str, Value] = {}
    secrets: Secrets = msgspec.field(default_factory=Secrets)
    reaches: dict[str, Reach] = {}
    """By the name of the binding."""
    edition: int = 0
    """Of a working tree: another one after each edit, so that it is not taken for what runs already."""

    @property
    def service(self) -> str:
        return self.place.partition("/")[0]

    @property
    def environment(self) -> str:
        return self.place.partition("/")[2]

    @property
    def ref(self) -> str:
        return f"{self.place}@{self.version}" if self.version else self.place


class Assembly(Model):
    """The first part answers requests from outside; the others are what it reaches."""

    parts: tuple[Part, ...]

    @property
    def front(self) -> Part:
        return self.parts[0]

    @property
    def place(self) -> str:
        return self.parts[0].place

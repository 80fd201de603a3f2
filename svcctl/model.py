"""The vocabulary as types: one set, for services.toml, the ledger, the API and `--json`.

All are frozen msgspec Structs. Stored bytes leave out fields equal to their default, so a field added later changes no
old digest; `--json` writes every field (`wire`). Fields marked *read* are empty in stored bytes and filled by the
backend: they depend on what happened since (names, tags) or must stay outside a digest (`since`, `under`).
"""

from typing import Any, Literal, NewType, dataclass_transform

import msgspec
from msgspec.structs import replace

from svcctl.digest import Digest
from svcctl.names import PRODUCTION

EnvironmentId = NewType("EnvironmentId", str)
"""20 hex digits: the milliseconds of its creation, then of a digest. Rows of environments made together stand together,
so a change of many touches few pages. Survives renames and deletion."""

Value = str | int | float | bool | list[Any] | dict[str, Any]
"""What a var holds: any JSON value but null; integers within ±2^53, floats finite."""

Kind = Literal[
    "deploy", "configure", "promote", "rollback", "clone", "create", "rename", "delete", "prune", "protect", "route",
    "tag", "delete-service", "create-token", "revoke-token",
]  # fmt: skip


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _Frozen(msgspec.StructMeta):
    """Struct options, said once: msgspec inherits some of them and type checkers others."""

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any], **options: Any) -> "_Frozen":
        options = {"frozen": True, "kw_only": True, "omit_defaults": True} | options
        return super().__new__(mcs, name, bases, body, **options)


class Model(msgspec.Struct, metaclass=_Frozen):
    """The base of every type here."""


# ---- settings


class Binding(Model):
    """A name in a handler's `env` that reaches something: exactly one of `service`, `kv`, `bucket`, `version_metadata`
    is set."""

    service: str | None = None
    entrypoint: str | None = None
    """With `service`: a class of its main file; None is the one that answers requests."""
    kv: str | None = None
    bucket: str | None = None
    version_metadata: bool = False
    """The version that the handler itself is."""
    environment: str | None = None
    """Explicit: whose environment, by name. None follows the environment the binding stands in."""

    @property
    def kind(self) -> Literal["service", "kv", "bucket", "version_metadata"]:
        if self.service is not None:
            return "service"
        if self.version_metadata:
            return "version_metadata"
        return "kv" if self.kv is not None else "bucket"

    @property
    def target(self) -> str:
        """The service or the label of the resource."""
        return self.service or self.kv or self.bucket or ""

    def __str__(self) -> str:
        if self.version_metadata:
            return "version metadata"
        part = f" ({self.entrypoint})" if self.entrypoint else ""
        where = f" of {self.environment}" if self.environment else ""
        return f"{self.kind} {self.target}{part}{where}"


class Layer(Model):
    """What services.toml says for one service in one environment, inheritance applied."""

    vars: dict[str, Value] = {}
    bindings: dict[str, Binding] = {}


class Overrides(Model):
    """What was set from the command line, on top of the file. `secrets` maps names to keyed fingerprints."""

    vars: dict[str, Value] = {}
    bindings: dict[str, Binding] = {}
    secrets: dict[str, str] = {}


class Settings(Model):
    """A version's settings document. `file` is None until services.toml was first applied."""

    file: Layer | None = None
    cli: Overrides = msgspec.field(default_factory=Overrides)

    @property
    def vars(self) -> dict[str, Value]:
        return {**(self.file.vars if self.file else {}), **self.cli.vars}

    @property
    def bindings(self) -> dict[str, Binding]:
        return {**(self.file.bindings if self.file else {}), **self.cli.bindings}

    @property
    def secrets(self) -> dict[str, str]:
        return self.cli.secrets


class Sealed(Model):
    """A secret's value on its way from `Backend.seal` into a command: readable by the store's key alone."""

    service: str
    environment: str
    name: str
    fingerprint: str
    ciphertext: str


# ---- code


class Commit(Model):
    """What git said where the code was deployed: the client's claim. `dirty` code differs from the commit in `files`;
    `patch` is the digest of that difference."""

    sha: str
    branch: str | None = None
    subject: str = ""
    author: str = ""
    dirty: bool = False
    remote: str | None = None
    files: tuple[str, ...] = ()
    patch: Digest | None = None


class LoggedCommit(Model):
    """A commit that only one side of a diff has."""

    sha: str
    subject: str
    author: str
    side: Literal["a", "b"]


class Requires(Model):
    """Names that code needs from its environment's settings, sorted."""

    vars: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()

    def lacking(self, settings: Settings) -> list[str]:
        """Names that effective settings do not have, with their kinds: `secret SIGNING_KEY`."""
        lacking = [f"var {name}" for name in self.vars if name not in settings.vars]
        lacking += [f"secret {name}" for name in self.secrets if name not in settings.secrets]
        return lacking + [f"binding {name}" for name in self.bindings if name not in settings.bindings]


class Code(Model):
    digest: Digest
    requires: Requires
    commit: Commit | None = None
    since: int = 0
    """*read*: the version that laid this half."""
    under: int | None = None
    """*read*: the version whose half lies beneath; None at creation, or where there was no code."""

    def same(self, other: "Code | None") -> bool:
        """Another commit alone is no other code."""
        return other is not None and self.digest == other.digest and self.requires == other.requires


class File(Model):
    path: str
    blob: Digest
    size: int
    executable: bool = False


class Manifest(Model):
    """An artifact: what `files` (sorted by path) hold and how they start. Nothing that an environment adds."""

    main: str
    """Relative to the root: `worker.py`, or `app.py:app`."""
    files: tuple[File, ...]
    runtime: str = "python"
    python: str | None = None
    platform: str | None = None
    """Set when anything compiled is inside, such as `linux-x86_64`."""


# ---- what services.toml says


class Source(Model):
    """Where a service's code is: paths relative to the folder of services.toml, with forward slashes."""

    main: str
    """The entry file, and `:app` after it where it names an object."""
    root: str
    python: str | None = None
    with_: tuple[str, ...] = msgspec.field(default=(), name="with")
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Block(Model):
    """One service in one environment, as the file has it. Routes and protection never inherit."""

    layer: Layer = msgspec.field(default_factory=Layer)
    secrets: tuple[str, ...] = ()
    """Names that must have a value before code goes live, sorted."""
    routes: tuple[str, ...] = ()
    protected: bool = False


class ServiceFile(Model):
    base: Block = msgspec.field(default_factory=Block)
    blocks: dict[str, Block] = {}
    """By environment, for those that have a table of their own."""
    optional: tuple[str, ...] = ()
    source: Source | None = None
    """None in commands: a backend has no use for it."""

    def block(self, name: str) -> Block:
        return self.blocks.get(name, self.base)

    @property
    def requires(self) -> Requires:
        def needed(names: "dict[str, Any] | tuple[str, ...]") -> tuple[str, ...]:
            return tuple(sorted(set(names) - set(self.optional)))

        layer = self.base.layer
        return Requires(vars=needed(layer.vars), secrets=needed(self.base.secrets), bindings=needed(layer.bindings))


class Limits(Model):
    """What a deploy may hold at most; in bytes, but `file_count` and `path_length` (characters)."""

    artifact_size: int = 2_000_000_000
    file_size: int = 1_000_000_000
    file_count: int = 50_000
    path_length: int = 1_024
    var_size: int = 65_536
    """Of one var, as compact JSON."""


NO_LIMITS_SAID = Limits()


class Project(Model):
    """services.toml, valid and merged. `services` is empty when there is no file and a name is all that is known."""

    name: str
    domain: str | None = None
    default_environment: str | None = None
    backend: str | None = None
    services: dict[str, ServiceFile] = {}
    limits: Limits = NO_LIMITS_SAID

    def as_sent(self) -> "Project":
        """As commands carry it: without what only bundling needs."""
        services = {name: replace(service, source=None) for name, service in self.services.items()}
        return replace(self, services=services, backend=None, limits=NO_LIMITS_SAID)

    @property
    def environments(self) -> set[str]:
        """The names the file gives to environments, for every service of the project."""
        named = {name for service in self.services.values() for name in service.blocks}
        return named | {PRODUCTION} | ({self.default_environment} if self.default_environment else set())


# ---- versions and changes


class Half(Model):
    """The settings half of a version."""

    digest: Digest
    since: int = 0
    """*read*: the version that laid this half; one that changed only secrets lays nothing."""
    under: int | None = None
    """*read*: the version whose half lies beneath."""


class Origin(Model):
    """The version that code was copied from."""

    environment: EnvironmentId
    number: int


class Restores(Model):
    """The versions whose halves came back in a roll back; None for a half that stayed."""

    code: int | None = None
    settings: int | None = None


class Version(Model, tag_field="type", tag="version"):
    """Record number N of an environment: code and settings and how they came."""

    number: int
    kind: Kind
    settings: Half
    actor: str
    at: str
    """UTC, `2026-11-23T11:12:39.123Z`. Numbers order history, not times."""
    code: Code | None = None
    origin: Origin | None = None
    restores: Restores | None = None
    message: str | None = None
    meta: dict[str, str] = {}
    note: str | None = None
    """What changed, in a few words, where kind and source do not say it: `LOG_LEVEL changed`."""

    ref: str = ""
    """*read*: `shop/production@12`, under today's name."""
    service: str = ""
    """*read*"""
    environment: str = ""
    """*read*"""
    digest: Digest | None = None
    """*read*: of the stored record."""
    parent: Digest | None = None
    """*read*: of the record before, in this environment's chain."""
    source: str | None = None
    """*read*: `shop/staging@7`, from `origin`."""
    change: int | None = None
    """*read*: the number of the change that made it."""
    tags: tuple[str, ...] = ()
    """*read*"""


class Change(Model):
    """What a command became. One that altered nothing has `changed` False and no id, number or time."""

    kind: Kind
    actor: str
    id: str | None = None
    at: str | None = None
    message: str | None = None
    changed: bool = False
    summary: tuple[str, ...] = ()
    """A sentence per step: what was done, and where."""
    notes: tuple[str, ...] = ()
    """What was left out or is worth knowing."""

    number: int | None = None
    """*read*"""
    touched: tuple[str, ...] = ()
    """*read*: environments whose history it is part of, under today's names: `shop/staging`."""
    versions: tuple[Version, ...] = ()
    """*read*"""


class Environment(Model):
    """A named place where a service runs. `head` is None while there is no version in this life of the name."""

    ref: str
    service: str
    name: str
    hostname: str | None
    head: int | None
    protected: bool
    routes: tuple[str, ...]
    id: EnvironmentId
    block: str
    """The table of services.toml that it follows."""
    cloned_from: EnvironmentId | None = None
    expires: str | None = None
    cli_routes: tuple[str, ...] = ()
    """Those of `routes` that were added from the command line."""
    lacks: tuple[str, ...] = ()
    """Required names without a value: it is not live."""
    deleted: bool = False


class Service(Model):
    name: str
    project: str
    deleted: bool = False


class Node(Model):
    """One environment in a deployment, and where each of its service bindings leads (`auth/production`)."""

    ref: str
    environment: EnvironmentId
    version: int
    code: Digest | None
    bindings: dict[str, str] = {}


class Deployment(Model):
    """What one environment runs: its head (the first node) and, through service bindings, the heads it reaches."""

    ref: str
    nodes: tuple[Node, ...]


# ---- who may do what, over the API

Role = Literal["viewer", "deployer", "promoter", "admin", "runtime"]


class Grant(Model):
    """What a token allows its holder: a role, in the environments whose service and name both match a pattern.
    `rules.access` says what each role may do."""

    name: str
    """The owner: the actor of what is done with it."""
    role: Role
    services: tuple[str, ...] = ("*",)
    environments: tuple[str, ...] = ("*",)
    expires: str | None = None


class Token(Grant, kw_only=True):
    """A grant as the store knows it. Its secret is known to the holder alone."""

    id: str
    created: str
    """When, in the form of `Version.at`."""
    actor: str
    """Who made it."""
    revoked: str | None = None
    used: str | None = None
    """The last time, to the minute or so; no part of the ledger."""


class Refusal(Model):
    """A request that the API turned away because of who asked."""

    at: str
    actor: str
    """The token's owner, or `unknown`."""
    peer: str
    """The network address that it came from."""
    what: str
    """The command's kind, planned or sent; else the request: `GET /v1/tokens`."""
    why: str
    token: str | None = None
    """Its id, also where it is expired or revoked; None where none is known."""


# ---- differences

How = Literal["added", "removed", "changed"]
"""Seen from `a`: what only `b` has was added."""


class SettingDifference(Model):
    """One effective name. `old` and `new` are None where that side lacks it, and always for secrets; a binding is a
    table as services.toml has it."""

    name: str
    kind: Literal["var", "secret", "binding"]
    change: How
    old: Value | None = None
    new: Value | None = None


class FileDifference(Model):
    path: str
    change: How
    old: File | None = None
    new: File | None = None


class StartDifference(Model):
    """How code starts: one of a manifest's other fields."""

    name: Literal["main", "runtime", "python", "platform"]
    old: str | None
    new: str | None


class RouteDifference(Model):
    route: str
    change: How


class Diff(Model):
    """What turns `a` into `b`, for one service. Each is a reference, or `working tree`."""

    a: str
    b: str
    settings: tuple[SettingDifference, ...] = ()
    routes: tuple[RouteDifference, ...] = ()
    """Routes belong to environments: two versions of one have the same."""
    protected: bool | None = None
    """That of `b`, where it differs."""
    start: tuple[StartDifference, ...] = ()
    files: tuple[FileDifference, ...] = ()
    commits: tuple[LoggedCommit, ...] = ()
    """Those that only one side has; where the repository does not know both, the two that code was deployed from."""
    logged: bool = True
    """Whether `commits` is what the repository says."""
    compare: str | None = None
    """Where a hosting site shows the commits between the two."""

    @property
    def same(self) -> bool:
        return not (self.settings or self.routes or self.protected is not None or self.start or self.files)


# ---- records: what an environment's chain holds besides versions


class Created(Model, tag_field="type", tag="created"):
    """A name begins, or a deleted one begins again; numbers go on after `last`."""

    service: str
    name: str
    block: str
    last: int = 0
    hostname: str | None = None
    cloned_from: EnvironmentId | None = None
    expires: str | None = None


class Renamed(Model, tag_field="type", tag="renamed"):
    old: str
    new: str
    hostname: str | None = None


class Rehosted(Model, tag_field="type", tag="rehosted"):
    """The project's domain moved."""

    hostname: str


class Routed(Model, tag_field="type", tag="routed"):
    layer: Literal["file", "cli"]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Protected(Model, tag_field="type", tag="protected"):
    on: bool


class Tagged(Model, tag_field="type", tag="tagged"):
    name: str
    number: int
    removed: bool = False


class Purged(Model, tag_field="type", tag="purged"):
    """Old values of these secrets were destroyed."""

    names: tuple[str, ...]


class Deleted(Model, tag_field="type", tag="deleted"):
    name: str


class Owned(Model, tag_field="type", tag="owned"):
    """On the store's own chain: a service belongs to a project from here on, or to none."""

    service: str
    project: str | None


class Domain(Model, tag_field="type", tag="domain"):
    """On the store's own chain: a project's domain."""

    project: str
    domain: str


class TokenCreated(Model, tag_field="type", tag="token-created"):
    """On the store's own chain."""

    id: str
    hash: Digest
    """Of the secret (`tokens.hash_of`)."""
    grant: Grant


class TokenRevoked(Model, tag_field="type", tag="token-revoked"):
    """On the store's own chain."""

    id: str
    name: str


Entry = (
    Version
    | Created
    | Renamed
    | Rehosted
    | Routed
    | Protected
    | Tagged
    | Purged
    | Deleted
    | Owned
    | Domain
    | TokenCreated
    | TokenRevoked
)


class Record(Model):
    """The stored bytes of one link of a chain. `change` is the digest of the change's own stored bytes."""

    change: Digest
    entry: Entry
    parent: Digest | None = None

"""A store moved to another place: the same head, bytes, settings and secrets there; nothing of it by a liar's hand."""

import base64
import binascii
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from apis import team
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from processes import Acme
from scene import Clock, People, Scene
from test_properties import Step, a_pair, step
from transcript import Shell

from svcctl import digest, reference, sealing, wire
from svcctl.backend import archive
from svcctl.backend.archive import FromFile
from svcctl.backend.base import Backend, Filter
from svcctl.backend.moving import Arriving, Differences, FromBackend, Moved, move
from svcctl.backend.segment import Head, Segment
from svcctl.backend.store import Store
from svcctl.errors import Conflict, Damage, NotFound, Refused
from svcctl.keyvalues import Entry
from svcctl.model import Created, EnvironmentId, File, Manifest, Record, Version
from svcctl.rules.state import Bound
from svcctl.sealing import SecretValue

NOW = 1_800_000_000.0
PASSPHRASE = SecretValue("correct horse battery")
TABLES = {
    "changes": "number", "records": "environment, seq", "environments": "id", "settings": "digest",
    "tags": "environment, name", "routes": "pattern", "bindings": "environment, name",
    "former_names": "service, name", "projects": "name", "services": "name",
}  # fmt: skip

SERVICES = """
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"
bindings.USERS = { kv = "users", environment = "production" }

[services.shop]
main = "shop/worker.py"
vars = { LOG = "info" }
bindings.AUTH = { service = "auth" }
bindings.CARTS = { kv = "carts" }
environments.qa.bindings.AUTH = { service = "auth", environment = "staging" }
"""


@pytest.fixture
def opened(tmp_path: Path, clock: Clock, people: People) -> Iterator[Callable[[str], Store]]:
    """Stores by name, made when they are first asked for."""
    stores: list[Store] = []

    def open_store(name: str) -> Store:
        stores.append(Store.open(tmp_path / name, actor=people, clock=clock))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def a(story: Scene) -> Store:
    """Where the story happened."""
    assert isinstance(story.backend, Store)
    return story.backend


@pytest.fixture
def b(opened: Callable[[str], Store]) -> Store:
    return opened("b")


@pytest.fixture
def story(opened: Callable[[str], Store], clock: Clock, people: People) -> Scene:
    """Everything that can be in a store, once."""
    a = opened("a")
    scene = Scene(a, clock, people, SERVICES)
    scene.deploy(auth="b1", shop="a1", commit="1" * 40)
    scene.promote("staging", "production")
    scene.secret("shop/staging", "KEY", "hunter2-old")
    scene.secret("shop/staging", "KEY", "hunter2-new")
    scene.deploy(shop="a2", tag="v2")
    scene.deploy("qa", shop="a2", services=("shop",))
    scene.routes("shop/production", "shop.example.com/*")
    scene.protect("production")
    scene.vars("staging", shop={"LOG": "debug"})
    scene.clone("staging", "preview")
    scene.rename("preview", "trial")
    scene.rollback("staging")
    scene.rollback("staging", to="1", services=("shop",))
    scene.clone("staging", "preview")
    scene.delete("preview")
    scene.clone("production", "preview")
    scene.promote("staging", "production", force=True)
    scene.rename("staging", "stage")
    carts = a.namespaces("shop", "production")["CARTS"]
    for number in range(3):
        a.keyvalues.put(carts, f"key{number}", f"value{number}".encode(), '{"a":1}', None)
    return scene


def moved(source: Backend, target: Backend, *, passphrase: SecretValue | None = None, kv: bool = True) -> Moved:
    return move(FromBackend(source, NOW, kv=kv), target, now=NOW, passphrase=passphrase, kv=kv)


def exported(source: Backend, passphrase: SecretValue | None = None) -> bytes:
    parts: list[bytes] = []
    archive.write(FromBackend(source, NOW, kv=True), parts.append, "2026-11-23T09:00:00.000Z", passphrase)
    return b"".join(parts)


def imported(content: bytes, target: Backend, passphrase: SecretValue | None = None) -> Moved:
    given = FromFile(io.BytesIO(content), NOW)
    done = move(given, target, now=NOW, passphrase=passphrase)
    given.end()
    return done


def rows(store: Store) -> dict[str, list[Any]]:
    return {table: store.database.all(f"SELECT * FROM {table} ORDER BY {order}") for table, order in TABLES.items()}


def same(one: Store, other: Store) -> bool:
    """Row for row what the source has, though none of it was sent; sound; and every version answers the same."""
    assert rows(one) == rows(other)
    assert one.standing() == other.standing()
    assert other.verify().problems == ()
    assert other.verify().head == one.verify().head == one.standing().head
    for version in versions(one):
        assert other.version(reference.parse(version.ref)) == version
        assert other.settings(version.settings.digest) == one.settings(version.settings.digest)
        if version.code:
            manifest = other.manifest(version.code.digest)
            assert manifest == one.manifest(version.code.digest)
            for file in manifest.files:
                with closing(one.open_blob(file.blob)) as mine, closing(other.open_blob(file.blob)) as theirs:
                    assert mine.read() == theirs.read()
    return True


def versions(store: Store) -> Iterator[Version]:
    """Those that a reference can mean: of each living environment, in this life."""
    for place in store.follow(0).places:
        found = store.history("acme", reference.parse(place.ref), filter=Filter(), limit=1000).versions
        yield from (version for version in found if version.number > place.identity.born)


# ---- the same there


def test_a_copy_is_the_store_itself(a: Store, b: Store) -> None:
    done = moved(a, b, passphrase=PASSPHRASE)

    assert same(a, b)
    assert (done.head, done.changes, done.missing) == (a.standing().head, a.standing().number, ())
    assert moved(a, b, passphrase=PASSPHRASE) == replace(
        done, before=done.head, changes=0, artifacts=0, blobs=0, bytes=0, secrets=0, entries=Differences()
    )


def test_a_file_is_the_store_itself(a: Store, b: Store, opened: Callable[[str], Store]) -> None:
    content = exported(a, PASSPHRASE)
    imported(content, b, PASSPHRASE)

    assert same(a, b)
    assert imported(exported(b, PASSPHRASE), opened("c"), PASSPHRASE).head == a.standing().head
    assert same(a, opened("c"))


def test_the_copy_goes_on_as_the_store_would_have(
    a: Store, b: Store, story: Scene, clock: Clock, people: People
) -> None:
    """Roll backs, explicit bindings and former names rest on what no record says."""
    moved(a, b, passphrase=PASSPHRASE)
    there = Scene(b, clock, people, SERVICES)

    def refused(scene: Scene) -> str:
        with pytest.raises(Refused) as error:
            scene.delete("stage")
        return error.value.message

    assert refused(there) == refused(story)
    for command in (
        lambda scene: scene.vars("stage", shop={"LOG": "error"}),
        lambda scene: scene.rollback("stage", services=("shop",)),
        lambda scene: scene.deploy("qa", shop="a3", services=("shop",)),
    ):
        at = clock.now
        one = command(story)
        clock.now = at
        other = command(there)
        assert (one.summary, one.notes) == (other.summary, other.notes)
    for name in ("production", "stage", "qa", "trial"):
        assert a.deployment("shop", name) == b.deployment("shop", name)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_any_cut_of_a_history_leads_to_the_same_store(a: Store, b: Store, size: int) -> None:
    upload_all(a, b)
    for start in range(0, a.standing().number, size):
        b.append(a.segment(start, start + size))
        assert b.standing() == a.standing(min(start + size, a.standing().number))
        assert b.verify().problems == ()
    assert same(a, b)


def upload_all(source: Store, target: Backend) -> None:
    segments = FromBackend(source, NOW, kv=False).segments(0)
    for code in itertools.chain.from_iterable(segment.artifacts for segment in segments):
        target.upload(Arriving(source.manifest_bytes(code), code, source.open_blob))


def test_a_copy_follows_its_source(a: Store, b: Store, story: Scene) -> None:
    moved(a, b, passphrase=PASSPHRASE)
    old = exported(a)
    story.deploy("stage", shop="a4")
    story.secret("shop/stage", "KEY", "third")
    story.rename("trial", "tried")

    assert moved(a, b, passphrase=PASSPHRASE).changes == 3
    assert same(a, b)
    with pytest.raises(Conflict, match=r"it is at c\d+, and the source ends at"):
        imported(old, b)


def test_the_newer_file_of_a_store_goes_on_from_the_older_one(a: Store, b: Store, story: Scene) -> None:
    imported(exported(a), b)
    story.deploy("stage", shop="a4")
    story.rename("trial", "tried")

    done = imported(exported(a), b)

    assert (done.changes, done.artifacts) == (2, 1)
    assert same(a, b)


def test_an_empty_store_moves(b: Store, opened: Callable[[str], Store]) -> None:
    assert imported(exported(opened("c")), b).changes == 0
    assert moved(opened("c"), b).changes == 0


@settings(max_examples=12)
@given(st.lists(step, min_size=8, max_size=30), st.integers(1, 7))
def test_any_history_moves(steps: list[Step], size: int) -> None:
    """In pieces, and whole through a file: row for row the same store."""
    with a_pair() as pair, tempfile.TemporaryDirectory() as folder:
        for kind, fields in steps:
            pair.run(kind, fields)
        one, other = (Store.open(Path(folder) / name) for name in "bc")
        with closing(one), closing(other):
            upload_all(pair.store, one)
            newest = pair.store.standing()
            while one.standing().number < newest.number:
                start = one.standing().number
                one.append(pair.store.segment(start, start + size))
            imported(exported(pair.store, PASSPHRASE), other, PASSPHRASE)
            assert rows(one) == rows(other) == rows(pair.store)
            assert one.verify().problems == other.verify().problems == ()
            assert one.standing() == other.standing() == newest
            assert other.valueless() == ()


# ---- who may not be the target


def test_a_target_with_a_history_of_its_own_is_left_alone(a: Store, b: Store, clock: Clock, people: People) -> None:
    Scene(b, clock, people, SERVICES).deploy(auth="b9", shop="a9")
    before = rows(b)

    with pytest.raises(Conflict, match="it is store"):
        moved(a, b)
    with pytest.raises(Conflict, match="it is store"):
        imported(exported(a), b)
    assert rows(b) == before


def test_two_copies_that_went_on_are_two_stores(a: Store, b: Store, story: Scene, clock: Clock, people: People) -> None:
    moved(a, b)
    file = exported(a)
    Scene(b, clock, people, SERVICES).deploy("stage", shop="a8", services=("shop",))
    with pytest.raises(Conflict, match="and the source ends at"):
        imported(file, b)
    story.deploy("stage", shop="a7", services=("shop",))
    story.deploy("stage", shop="a6", services=("shop",))
    before = rows(b)

    with pytest.raises(Conflict, match="a history of its own"):
        moved(a, b)
    with pytest.raises(Conflict, match="a history of its own"):
        imported(exported(a), b)
    assert rows(b) == before


# ---- sources that lie (T17)


def lying(a: Store, change: Callable[[Segment], Segment]) -> Segment:
    return change(a.segment(0, a.standing().number))


def of_record(segment: Segment, index: int, change: Callable[[Record], Record]) -> Segment:
    """A record altered, and every digest behind it on its chain made to match."""
    found = list(segment.records)
    environment, number = found[index].environment, index
    old_tip, new_tip = None, None
    for place in range(number, len(found)):
        if found[place].environment != environment:
            continue
        record = wire.decode(found[place].body, Record)
        altered = change(record) if place == number else record
        if new_tip is not None and record.parent == old_tip:
            altered = replace(altered, parent=new_tip)
        body = wire.canonical(altered)
        old_tip, new_tip = digest.of("record", found[place].body), digest.of("record", body)
        found[place] = replace(found[place], body=body)
    return replace(segment, records=tuple(found))


def first(segment: Segment, wanted: Callable[[Any], bool]) -> int:
    return next(place for place, sent in enumerate(segment.records) if wanted(wire.decode(sent.body, Record).entry))


def is_version(number: int) -> Callable[[Any], bool]:
    return lambda entry: isinstance(entry, Version) and entry.number == number


def altered_entry(wanted: Callable[[Any], bool], **fields: Any) -> Callable[[Segment], Segment]:
    return lambda segment: of_record(
        segment, first(segment, wanted), lambda record: replace(record, entry=replace(record.entry, **fields))
    )


def without_record(segment: Segment) -> Segment:
    gone = first(segment, is_version(2))
    return replace(segment, records=segment.records[:gone] + segment.records[gone + 1 :])


def swapped(segment: Segment) -> Segment:
    one, two, *rest = segment.changes
    return replace(segment, changes=(two, one, *rest))


def claiming(**bound: Bound) -> Callable[[Segment], Segment]:
    """Of every head."""
    return lambda segment: replace(
        segment, claims={id: replace(claim, bound=bound) for id, claim in segment.claims.items()}
    )


LIES: dict[str, Callable[[Segment], Segment]] = {
    "a record rewritten": altered_entry(is_version(1), message="another"),
    "an actor rewritten": altered_entry(is_version(2), actor="Eve"),
    "a version left out": without_record,
    "a number used twice": altered_entry(is_version(2), number=1),
    "a number from the future": altered_entry(is_version(2), number=7),
    "changes in another order": swapped,
    "a change left out": lambda segment: replace(segment, changes=segment.changes[1:]),
    "a settings document left out": lambda segment: replace(segment, settings=segment.settings[1:]),
    "a settings document altered": lambda segment: replace(
        segment, settings=(segment.settings[0].replace(b"info", b"loud"), *segment.settings[1:])
    ),
    "a head that it does not lead to": lambda segment: replace(
        segment, head=Head(f"{len(segment.changes)}:{'0' * 64}")
    ),
    "a beginning that was not": lambda segment: replace(segment, after=Head(f"0:{'0' * 64}")),
    "a length that it has not": lambda segment: replace(segment, head=Head("1:" + segment.head.partition(":")[2])),
    "a name that leads elsewhere": altered_entry(lambda entry: isinstance(entry, Created), name="../../etc"),
    "bytes that are no record": lambda segment: replace(
        segment, records=(replace(segment.records[0], body=b"{"), *segment.records[1:])
    ),
    "a record that nests without end": lambda segment: replace(
        segment, records=(replace(segment.records[0], body=b"[" * 100_000), *segment.records[1:])
    ),
    "an environment's record on the store's chain": lambda segment: replace(
        segment, records=tuple(replace(sent, environment=EnvironmentId("")) for sent in segment.records)
    ),
    "a binding to another service": claiming(AUTH=Bound(service="shop")),
    "a binding to what never was": claiming(USERS=Bound(service="auth", environment=EnvironmentId("0" * 20))),
    "a binding that nobody has": claiming(NOBODY=Bound(service="auth")),
    "a project that can't be": lambda segment: replace(
        segment, changes=tuple(replace(sent, project="\x1b[31m") for sent in segment.changes)
    ),
    "an id that can't be": lambda segment: replace(segment, store="../" * 8),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_source_is_refused(a: Store, b: Store, lie: str) -> None:
    upload_all(a, b)
    before = rows(b), b.standing()

    with pytest.raises((Damage, Conflict)):
        b.append(lying(a, LIES[lie]))

    assert (rows(b), b.standing()) == before
    assert moved(a, b).head == a.standing().head
    assert same(a, b)


def test_a_version_comes_after_its_artifact(a: Store, b: Store) -> None:
    with pytest.raises(Conflict, match=r"artifact \w+ of \w+/staging@1 is not in the store"):
        b.append(a.segment(0, 100))
    assert b.standing().number == 0


class Liar:
    """A backend that gives other bytes than were asked for."""

    def __init__(self, backend: Store, manifest: Callable[[bytes], bytes], blob: Callable[[bytes], bytes]) -> None:
        self._backend = backend
        self._manifest = manifest
        self._blob = blob

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def manifest_bytes(self, code: Any) -> bytes:
        return self._manifest(self._backend.manifest_bytes(code))

    def open_blob(self, blob: Any) -> io.BytesIO:
        with closing(self._backend.open_blob(blob)) as stream:
            return io.BytesIO(self._blob(stream.read()))


BYTES = {
    "other": lambda content: content[::-1],
    "fewer": lambda content: content[:-1],
    "more": lambda content: content + b"!",
    "none": lambda content: content[:0],
}  # fmt: skip


@pytest.mark.parametrize("how", BYTES)
@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_other_bytes_than_their_name_says_are_refused(a: Store, b: Store, what: str, how: str) -> None:
    honest: Any = bytes
    liar: Any = Liar(a, BYTES[how] if what == "manifest" else honest, BYTES[how] if what == "blob" else honest)

    with pytest.raises(Damage):
        moved(liar, b)

    assert b.standing().number == 0
    moved(a, b)
    assert same(a, b)
    assert b.verify().leftovers == ()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "C:\\x", "a//b", "a\x00b", "a/./b", "", "\x1b[31m"])
def test_a_manifest_that_leads_elsewhere_is_refused(path: str) -> None:
    blob = digest.of_blob(b"x")
    content = wire.canonical(Manifest(main=path, files=(File(path=path, blob=blob, size=1),)))

    with pytest.raises(Damage, match="the manifest can't be"):
        Arriving(content, digest.of("artifact", content), lambda _: io.BytesIO(b"x"))


def test_a_manifest_without_its_digest_is_refused() -> None:
    content = wire.canonical(Manifest(main="a.py", files=()))
    with pytest.raises(Damage, match="is not that of artifact"):
        Arriving(content, digest.of("artifact", b"other"), lambda _: io.BytesIO(b""))


# ---- files that were cut, altered, or are something else (T26)


def test_a_file_cut_anywhere_is_refused_and_what_came_is_a_history(a: Store, b: Store) -> None:
    whole = exported(a, PASSPHRASE)
    for end in (*range(0, 200, 7), *range(200, len(whole), len(whole) // 60), len(whole) - 1):
        with pytest.raises((Damage, Refused)):
            imported(whole[:end], b, PASSPHRASE)
        assert b.standing() in (
            a.standing(),
            a.standing(b.standing().number),
            replace(a.standing(0), store=b.standing().store),
        )
    imported(whole, b, PASSPHRASE)
    assert same(a, b)


def test_a_file_with_one_bit_turned_anywhere_is_refused(a: Store) -> None:
    """Its sums alone show it, before anything is taken."""
    whole = exported(a, PASSPHRASE)
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        turned = bytearray(whole)
        turned[place] ^= 1
        with pytest.raises((Damage, Refused)):
            FromFile(io.BytesIO(bytes(turned)), NOW).end()
    FromFile(io.BytesIO(whole), NOW).end()


def frames(content: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(archive.MAGIC)
    while place < len(content):
        kind, size = content[place : place + 1], int.from_bytes(content[place + 1 : place + 9], "big")
        found.append((kind, content[place + 9 : place + 9 + size]))
        place += 9 + size + 32
    return found


def file_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    """With sums that match: as whoever alters a file on purpose makes it."""
    made: list[bytes] = []
    writer = archive._Writer(made.append)
    for kind, payload in parts:
        writer.frame(kind, payload)
    return b"".join(made)


FORGED: dict[str, Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]] = {
    "no end": lambda parts: parts[:-1],
    "no header": lambda parts: parts[1:],
    "two headers": lambda parts: [parts[0], *parts],
    "no history": lambda parts: [part for part in parts if part[0] != b"S"],
    "no blobs": lambda parts: [part for part in parts if part[0] != b"B"],
    "no manifests": lambda parts: [part for part in parts if part[0] != b"M"],
    "other blobs": lambda parts: [(kind, body[:32] + b"evil" if kind == b"B" else body) for kind, body in parts],
    "a kind that is none": lambda parts: [*parts[:-1], (b"Z", b""), parts[-1]],
    "no secrets": lambda parts: [part for part in parts if part[0] != b"X"],
    "a history of another form": lambda parts: [(k, b"[]" if k == b"S" else body) for k, body in parts],
    "a history that nests": lambda parts: [(k, b"[" * 100_000 if k == b"S" else body) for k, body in parts],
    "something behind the end": lambda parts: [*parts, (b"K", b"{}")],
    "KV keys that can't be": lambda parts: [
        (k, body.replace(b'"key":"key0"', b'"key":".."') if k == b"K" else body) for k, body in parts
    ],
}


@pytest.mark.parametrize("how", FORGED)
def test_a_file_with_good_sums_is_not_believed_either(a: Store, b: Store, how: str) -> None:
    parts = frames(exported(a, PASSPHRASE))
    assert file_of(parts) == exported_again(parts)

    with pytest.raises((Damage, Refused, NotFound)):
        imported(file_of(FORGED[how](parts)), b, PASSPHRASE)
    moved(a, b, passphrase=PASSPHRASE)
    assert same(a, b)


def exported_again(parts: list[tuple[bytes, bytes]]) -> bytes:
    """The helper that forges writes what the program writes."""
    return file_of([*parts[:-1], (b"E", wire.canonical(archive._End(frames=len(parts) - 1)))])


def test_a_length_is_believed_only_as_far_as_bytes_follow() -> None:
    header = archive.MAGIC + b"H" + (1 << 61).to_bytes(8, "big") + b"{}"
    with pytest.raises(Damage, match="is the limit"):
        FromFile(io.BytesIO(header), NOW)
    with pytest.raises(Damage, match="cut short"):
        FromFile(io.BytesIO(archive.MAGIC + b"H" + (200_000_000).to_bytes(8, "big") + b"{}"), NOW)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"svcctl store 2\n", b"\x00" * 1000])
def test_what_is_no_export_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match="that is no export of a store"):
        FromFile(io.BytesIO(content), NOW)


# ---- secrets


def test_secrets_come_along_with_a_passphrase(a: Store, b: Store, story: Scene) -> None:
    done = imported(exported(a, PASSPHRASE), b, PASSPHRASE)

    place = b.environment("shop", "stage")
    assert b.reveal(place.id, b.settings_of(place).secrets)["KEY"].reveal() == b"hunter2-new"
    assert place.lacks == ()
    assert done.missing == ()
    assert done.secrets == len(a.database.all("SELECT 1 FROM secrets")) > 2
    story.backend = b
    assert story.secret("shop/stage", "KEY", "hunter2-new").changed is False, "fingerprints stay comparable"
    assert b.database.all("SELECT ciphertext FROM secrets") != a.database.all("SELECT ciphertext FROM secrets")


def test_secrets_left_out_are_listed_and_what_needs_them_is_not_live(a: Store, b: Store) -> None:
    done = moved(a, b)

    assert ("shop/stage", "KEY") in [(each.ref, each.name) for each in done.missing]
    assert b.environment("shop", "stage").lacks == ("secret KEY",)
    assert {each.ref for each in b.environments("acme") if each.lacks} == {each.ref for each in done.missing}
    place = b.environment("shop", "stage")
    with pytest.raises(Refused, match="left behind when the store was moved"):
        b.reveal(place.id, b.settings_of(place).secrets)

    assert moved(a, b, passphrase=PASSPHRASE).missing == ()
    assert b.environment("shop", "stage").lacks == ()


def test_a_secret_set_anew_makes_it_live(a: Store, b: Store, story: Scene) -> None:
    moved(a, b)
    story.backend = b
    assert story.secret("shop/stage", "KEY", "hunter2-new").changed is True
    assert b.environment("shop", "stage").lacks == ()
    with pytest.raises(Conflict):
        moved(a, b, passphrase=PASSPHRASE)


def test_a_wrong_passphrase_and_altered_values_are_refused(a: Store, b: Store) -> None:
    content = exported(a, PASSPHRASE)
    with pytest.raises(Refused, match="that is not the passphrase"):
        imported(content, b, SecretValue("incorrect horse"))
    salt = sealing.new_salt()
    key = sealing.passphrase_key(PASSPHRASE, salt)
    sent = a.seal_all(key, salt)
    one, *rest = sent.secrets
    for lie in (
        replace(one, ciphertext=one.ciphertext[:-1] + bytes([one.ciphertext[-1] ^ 1])),
        replace(one, fingerprint="0" * 32),
        replace(one, name="OTHER"),
        replace(one, environment=next(each.environment for each in rest if each.environment != one.environment)),
    ):
        with pytest.raises(Damage):
            b.take_secrets(replace(sent, secrets=(lie, *rest)), key)
    with pytest.raises(Conflict, match="of another store"):
        b.take_secrets(replace(sent, store="0" * 32), key)
    assert b.database.all("SELECT * FROM secrets") == []
    assert b.take_secrets(sent, key) == len(sent.secrets)


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(Refused, match="8 characters"):
        sealing.passphrase_key(SecretValue("short"), sealing.new_salt())


def test_a_vault_that_was_opened_before_knows_the_store_that_came(a: Store, b: Store, story: Scene) -> None:
    """Its key was made for another id."""
    b.seal("shop", "stage", "KEY", b"early")
    moved(a, b, passphrase=PASSPHRASE)
    story.backend = b
    story.secret("shop/stage", "KEY", "later")
    with closing(Store.open(b.folder)) as again:
        place = again.environment("shop", "stage")
        assert again.reveal(place.id, again.settings_of(place).secrets)["KEY"].reveal() == b"later"


def test_no_value_is_in_an_export_in_clear(a: Store, story: Scene) -> None:
    values = [f"canary-{number}-\"'\\é☃" for number in range(20)]
    for number, value in enumerate(values):
        story.secret("shop/stage", f"CANARY_{number}", value)
    forms = [
        form
        for value in (each.encode() for each in values)
        for form in (value, base64.b64encode(value), value.hex().encode(), json.dumps(value.decode())[1:-1].encode())
    ]
    for content in (exported(a), exported(a, PASSPHRASE)):
        whole = content + b"".join(texts(content))
        assert not [form for form in forms if form in whole]
    assert not [part for part in frames(exported(a)) if part[0] == b"X"]
    assert PASSPHRASE.reveal() not in exported(a, PASSPHRASE)


def texts(content: bytes) -> Iterator[bytes]:
    """What is base64 in it, as it was."""
    for word in content.split(b'"'):
        if len(word) > 20 and len(word) % 4 == 0:
            with suppress(binascii.Error):
                yield base64.b64decode(word, validate=True)


# ---- KV


def test_entries_come_along_and_old_ones_are_replaced(a: Store, b: Store) -> None:
    moved(a, b)
    name = a.namespaces("shop", "production")["CARTS"]
    assert b.keyvalues.get(name, "key1", NOW) == Entry(b"value1", '{"a":1}', None)
    b.keyvalues.put(name, "extra", b"", None, None)
    a.keyvalues.put(name, "key1", b"other", None, int(NOW) + 1000)
    a.keyvalues.put(name, "key9", b"\xff", None, None)

    for done in (moved(a, b), imported(exported(a), b)):
        assert done.namespaces == 1
        assert done.entries in (Differences(added=1, replaced=1, removed=1), Differences())
    assert [key.name for key in b.keyvalues.list(name, "", 100, None, NOW).keys] == ["key0", "key1", "key2", "key9"]
    assert b.keyvalues.get(name, "key1", NOW) == Entry(b"other", None, int(NOW) + 1000)
    assert moved(a, b, kv=False).namespaces is None


def test_many_entries_of_several_namespaces_through_a_file(a: Store, b: Store) -> None:
    names = [a.namespaces("shop", place)["CARTS"] for place in ("production", "stage", "qa")]
    for name in names:
        a.keyvalues.put_all(name, [(f"é{number}", Entry(name.encode() * number)) for number in range(1203)])

    done = imported(exported(a), b)

    assert done.entries.added == 3 + 3 * 1203
    for name in names:
        assert b.keyvalues.get(name, "é1200", NOW) == Entry(name.encode() * 1200)


# ---- as it is typed


SHOP = """\
project = "acme"
default_environment = "staging"

[services.shop]
main = "shop/worker.py"
secrets = ["KEY"]
optional = ["KEY"]
bindings.CARTS = { kv = "carts" }
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    folder = tmp_path / "project"
    (folder / "shop").mkdir(parents=True)
    (folder / "services.toml").write_text(SHOP)
    (folder / "shop/worker.py").write_text("async def fetch(request, env, ctx): ...\n")
    (folder / "words").write_text("correct horse battery\n")
    shell = Shell(folder, capsys)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hunter2")))
    shell.done("secrets", "set", "KEY")
    shell.done("deploy")
    shell.done("kv", "key", "put", "carts", "ada", "apples")
    return shell


def head(shell: Shell, *backend: str) -> str:
    found: str = shell(*backend, "verify", "--json").json["head"]
    return found


def test_a_copy_is_typed(shell: Shell) -> None:
    assert shell.done("backend", "copy", ".svcctl", "new", "--dry-run") == (
        "new would go from c0 to c2\n"
        "  2 changes, with the artifacts of their versions\n"
        "  without 1 secret: they need a passphrase\n"
        "  the entries of 1 KV namespace\n"
    )
    would = shell("backend", "copy", ".svcctl", "new", "--dry-run", "--json").json
    assert (would["changes"], would.get("artifacts"), would.get("bytes")) == (2, None, None)
    assert not (shell.folder / "new").exists()

    said = shell.done("backend", "copy", ".svcctl", "new")

    assert (
        said.splitlines()[0]
        == "new is at c2: 2 changes moved, 1 artifact, 0 secrets, KV: 1 added, 0 replaced, 0 removed"
    )
    assert said.splitlines()[2] == f"head:   {head(shell)}"
    assert said.splitlines()[3:] == [
        "note: 1 secret without a value there; what needs one is not live until it is set:",
        "  svcctl secrets set KEY -s shop --env staging",
    ]
    assert head(shell) == head(shell, "--backend", "new")
    assert "not live: lacks secret KEY" in shell.done("--backend", "new", "status").replace("     ", " ")
    again = shell("backend", "copy", ".svcctl", "new", "--passphrase-file", "words", "--json")
    assert (again.json["changes"], again.json["secrets"], again.json["missing"]) == (0, 1, [])
    assert shell.done("backend", "copy", ".svcctl", "new").startswith("nothing to do: new is at c2 already\n")


def test_a_file_is_typed(shell: Shell) -> None:
    said = shell.done("export", "acme.store", "--passphrase-file", "words")
    assert said.startswith("acme.store holds 2 changes, 1 artifact, 1 secret, 1 KV entry (")
    assert (shell.folder / "acme.store").stat().st_mode & 0o777 == 0o600
    assert list(shell.folder.glob("*.part")) == []

    assert shell.done("--backend", "new", "import", "acme.store", "--passphrase-file", "words").startswith(
        "the store is at c2: 2 changes moved, 1 artifact, 1 secret, KV: 1 added"
    )
    assert head(shell) == head(shell, "--backend", "new")
    assert shell("--backend", "new", "kv", "key", "get", "carts", "ada").out == "apples"


def test_kv_that_would_be_lost_needs_a_yes(shell: Shell) -> None:
    shell.done("export", "acme.store")
    shell.done("kv", "key", "put", "carts", "ada", "pears")

    said = shell("import", "acme.store")
    assert (said.status, said.err) == (
        5,
        (
            "error: replace or remove 1 KV entry of the target: this needs a yes\nhint: add --yes\n"
            "next: svcctl import acme.store --yes\n"
        ),
    )
    assert shell("kv", "key", "get", "carts", "ada").out == "pears"
    shell.done("import", "acme.store", "--no-kv")
    assert shell("kv", "key", "get", "carts", "ada").out == "pears"
    shell.done("import", "acme.store", "--yes")
    assert shell("kv", "key", "get", "carts", "ada").out == "apples"


def test_an_export_writes_over_nothing_but_its_own_past(shell: Shell) -> None:
    shell.done("export", "acme.store")
    shell.done("tag", "shop/staging", "first")
    shell.done("export", "acme.store")
    newest = (shell.folder / "acme.store").read_bytes()
    shell.done("backend", "copy", ".svcctl", "old")
    shell.done("tag", "shop/staging", "second")
    shell.done("export", "newer.store")

    for backend, file in (("old", "newer.store"), (".svcctl", "services.toml"), (".svcctl", "shop")):
        said = shell("--backend", backend, "export", file)
        assert (said.status, "is there already" in said.err) == (1, True), said
    (shell.folder / "link").symlink_to("acme.store")
    assert shell("export", "link").status == 1
    assert (shell.folder / "acme.store").read_bytes() == newest


def test_a_damaged_file_makes_no_store(shell: Shell) -> None:
    shell.done("export", "acme.store")
    content = (shell.folder / "acme.store").read_bytes()
    (shell.folder / "cut.store").write_bytes(content[:-100])

    said = shell("--backend", "new", "import", "cut.store", "--json")
    assert (said.status, said.json["error"]["code"]) == (9, "damage")
    assert not (shell.folder / "new").exists()
    for wrong, status in (("nowhere", 3), ("shop", 2), ("services.toml", 1)):
        assert shell("--backend", "new", "import", wrong).status == status
    said = shell("--backend", "new", "import", "acme.store", "--passphrase-file", "services.toml")
    assert said.status == 0, "a file without secrets needs no passphrase"


def test_a_store_is_not_copied_onto_itself_nor_over_another(shell: Shell) -> None:
    assert shell("backend", "copy", ".svcctl", "./.svcctl").status == 2
    shell.done("backend", "copy", ".svcctl", "new")
    shell.done("tag", "shop/staging", "mine")
    shell.done("--backend", "new", "tag", "shop/staging", "theirs")
    said = shell("backend", "copy", ".svcctl", "new", "--json")
    assert (said.status, said.json["error"]["code"]) == (4, "conflict")
    nowhere = shell("backend", "copy", "nowhere", "other")
    assert (nowhere.status, nowhere.err) == (3, "error: there is no store at nowhere\n")


def test_a_target_may_have_a_name(shell: Shell, tmp_path: Path) -> None:
    with team(tmp_path / "team") as found:
        shell("backend", "add", "team", found.api.url)
        said = shell("backend", "copy", ".svcctl", "team")
    assert (said.status, said.err.splitlines()[0]) == (6, f"error: no token for {found.api.url} is known here")
    assert not (shell.folder / "team").exists()


# ---- killed (I8)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    acme = Acme.released(tmp_path_factory.mktemp("released"))
    acme.done("secrets", "set", "KEY", "--env", "staging", typed="hunter2")
    (acme.folder / "vars.json").write_text(json.dumps({f"V{number}": "v" * 60_000 for number in range(70)}))
    acme.done("vars", "import", "vars.json", "--env", "staging", "-s", "shop")  # a segment ends behind it
    acme.write("v5")
    acme.done("deploy")
    (acme.folder / "words").write_text("correct horse battery\n")
    acme.done("export", "acme.store", "--passphrase-file", "words")
    return acme


POINTS = (
    "store.created", "migrate.before-commit", "migrate.committed", "upload.pack-written", "upload.pack-named",
    "upload.before-commit", "upload.committed", "upload.committed:3", "move.locked", "move.before-commit",
    "move.committed", "move.locked:2", "move.before-commit:2", "move.committed:2", "move.secrets", "answer.printed",
)  # fmt: skip


@pytest.mark.parametrize(
    ("how", "point"),
    [("copy", point) for point in POINTS]
    + [("import", point) for point in ("migrate.committed", "upload.committed:3", "move.committed", "move.secrets")],
)
def test_i8_a_move_killed_anywhere_goes_on(how: str, point: str, released: Acme, tmp_path: Path) -> None:
    acme = released.copied(tmp_path / "acme")
    wanted = acme.found().head
    words = {
        "copy": ["backend", "copy", ".svcctl", "new"],
        "import": ["--backend", "new", "import", "acme.store"],
    }[how]
    arguments = [*words, "--passphrase-file", "words"]

    acme.killed(*arguments, at=point)
    if (acme.folder / "new/ledger.db").exists():
        with closing(Store.open(acme.folder / "new")) as store:
            found = store.verify()
            assert found.problems == ()
            assert acme("verify", "--head", found.head).status == 0 or found.changes == 0
    done = acme.done(*arguments, "--json").json

    assert (done["head"], done["missing"]) == (wanted, [])
    with closing(Store.open(acme.folder / "new")) as store, closing(Store.open(acme.store)) as source:
        assert rows(store) == rows(source)
        store.gc(dry_run=False, grace=0)
        assert store.verify() == replace(store.verify(), head=wanted, problems=(), leftovers=())


@pytest.mark.parametrize("point", ["export.written", "export.named"])
def test_an_export_killed_leaves_the_former_file_or_the_new_one(point: str, released: Acme, tmp_path: Path) -> None:
    acme = released.copied(tmp_path / "acme")
    acme.done("tag", "shop/staging", "later")
    acme.killed("export", "acme.store", at=point)
    acme.done("--backend", "new", "import", "acme.store", "--dry-run")
    acme.done("export", "acme.store")
    assert acme.done("--backend", "new", "import", "acme.store", "--json").json["head"] == acme.found().head
    assert list(acme.folder.glob("*.part")) == []


def test_two_copies_at_once_make_one(released: Acme, tmp_path: Path) -> None:
    acme = released.copied(tmp_path / "acme")
    arguments = ("backend", "copy", ".svcctl", "new", "--passphrase-file", "words")
    stopped = acme.stopped(*arguments, at="upload.committed")
    try:
        assert acme.done(*arguments, "--json").json["changes"] > 0
    finally:
        ended = stopped.goes_on()
    assert ended.status == 0, ended
    with closing(Store.open(acme.folder / "new")) as store:
        assert store.verify().problems == ()
        assert store.standing().head == acme.found().head


def test_a_full_disk_is_told_and_leaves_a_beginning(released: Acme, tmp_path: Path) -> None:
    acme = released.copied(tmp_path / "acme")
    for size in (1000, 100_000, 200_000):
        said = acme.short_of_space(size, "backend", "copy", ".svcctl", "new")
        assert said.status in (0, 1, 7, 9), said
    (acme.folder / "shop/large.txt").write_text("".join(map(str, range(60_000))))
    acme.done("deploy")
    said = acme.short_of_space(100_000, "export", "other.store")
    assert (said.status, "could not be written" in said.err) == (1, True), said
    assert not (acme.folder / "other.store").exists()
    acme.done("backend", "copy", ".svcctl", "new")
    with closing(Store.open(acme.folder / "new")) as store:
        assert store.verify().problems == ()


# ---- between all kinds of backends


def test_a_store_moves_into_every_kind_of_backend_and_back(
    a: Store, backend: Backend, opened: Callable[[str], Store]
) -> None:
    """`backend` is a folder, a database or an API."""
    there = moved(a, backend, passphrase=PASSPHRASE)
    assert (there.head, there.missing, there.entries) == (a.standing().head, (), Differences(added=3))
    again = moved(a, backend, passphrase=PASSPHRASE)
    assert (again.changes, again.secrets, again.entries) == (0, 0, Differences())
    assert [each.head for each in backend.environments("acme")] == [each.head for each in a.environments("acme")]

    back = moved(backend, opened("back"), passphrase=PASSPHRASE)
    assert (back.head, back.missing, back.secrets) == (a.standing().head, (), there.secrets)
    assert same(a, opened("back"))
    assert imported(exported(backend, PASSPHRASE), opened("file"), PASSPHRASE).head == a.standing().head
    assert same(a, opened("file"))


@pytest.mark.parametrize("lie", ["a record rewritten", "a version left out", "a binding to what never was"])
def test_every_kind_of_backend_refuses_lies(a: Store, backend: Backend, lie: str) -> None:
    upload_all(a, backend)
    with pytest.raises((Damage, Conflict)):
        backend.append(lying(a, LIES[lie]))
    assert backend.standing().number == 0
    assert moved(a, backend).head == a.standing().head

"""Damage and tampering: what verify names, and what is never handed on (FAULTS T1, T3, T16)."""

import contextlib
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from scene import Bundle, Clock, People, Scene, bundle

from svcctl import commands, digest, wire
from svcctl.backend.store import Store
from svcctl.bundle.unpack import unpack
from svcctl.digest import Digest
from svcctl.errors import Damage, Refused, UsageError
from svcctl.model import Binding, Change, Code, Record


def bundle_of(shared: str, main: str) -> Bundle:
    return Bundle({"shared.py": shared, "worker.py": main})


def deploy_until_done(scene: Scene, text: str) -> None:
    for _ in range(100):
        with contextlib.suppress(Refused):  # gc was between the upload and the deploy, and was told to spare nothing
            scene.deploy(shop=text)
            return
    pytest.fail("gc took every upload")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / ".svcctl", actor=People(), clock=Clock())) as opened:
        yield opened


@pytest.fixture
def shop(store: Store) -> Scene:
    return a_shop(store)


def a_shop(store: Store) -> Scene:
    """a1 ran in production and was replaced by a2, which is live."""
    scene = Scene(store, Clock(), People())
    scene.deploy(auth="b1", shop="a1")  # c1
    scene.promote("staging", "production")  # c2
    scene.deploy(shop="a2")  # c3
    scene.promote("staging", "production")  # c4
    return scene


# ---- blobs


class Ground:
    """Where a blob lies, for hands that should not be there."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def place(self, blob: Digest) -> tuple[Path, int, int]:
        pack, position, size = self._store.database.one(
            "SELECT pack, position, size FROM blobs WHERE digest = ?", (blob,)
        )
        path = self._store.folder / "packs" / pack
        path.chmod(0o600)
        return path, position, size

    def write(self, blob: Digest, content: bytes) -> None:
        path, position, _ = self.place(blob)
        with path.open("r+b") as file:
            file.seek(position)
            file.write(content)

    def read(self, blob: Digest) -> bytes:
        path, position, size = self.place(blob)
        return path.read_bytes()[position : position + size]


def flip(ground: Ground, blob: Digest) -> None:
    content = ground.read(blob)
    ground.write(blob, bytes([content[0] ^ 1]) + content[1:])


def flip_and_keep_the_time(ground: Ground, blob: Digest) -> None:
    path, _, _ = ground.place(blob)
    before = path.stat()
    flip(ground, blob)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(ground: Ground, blob: Digest) -> None:
    path, position, size = ground.place(blob)
    os.truncate(path, position + size - 1)


def delete(ground: Ground, blob: Digest) -> None:
    ground.place(blob)[0].unlink()


def make_unreadable(ground: Ground, blob: Digest) -> None:
    """Also for root, who may read every file."""
    path, _, _ = ground.place(blob)
    path.unlink()
    path.mkdir()


def swap(ground: Ground, blob: Digest) -> None:
    """With a blob of the same size, of another service."""
    other = digest.of_blob(b"b1") if ground.place(blob)[2] == 2 else digest.of_blob(bundle("b1").content)
    one, two = ground.read(blob), ground.read(other)
    ground.write(blob, two)
    ground.write(other, one)


DAMAGES = [flip, flip_and_keep_the_time, truncate, delete, make_unreadable, swap]
BLOBS = {"file": digest.of_blob(b"a1"), "manifest": digest.of_blob(bundle("a1").content)}


@pytest.fixture(
    params=[(damage, blob) for damage in DAMAGES for blob in BLOBS], ids=lambda p: f"{p[0].__name__}-{p[1]}"
)
def damaged(shop: Scene, store: Store, request: pytest.FixtureRequest) -> Scene:
    """The code a1 is."""
    damage, blob = request.param
    damage(Ground(store), BLOBS[blob])
    return shop


@pytest.mark.usefixtures("damaged")
def test_verify_names_the_versions_that_run_a_damaged_blob(store: Store):
    problems = [problem for problem in store.verify().problems if "shop/" in problem]
    assert problems
    for problem in problems:
        assert re.search(r"used by shop/production@1, shop/staging@1$", problem), problem


@pytest.mark.parametrize(
    "attempt",
    [
        lambda scene: scene.rollback(),
        lambda scene: scene.rollback(to="1", services=("shop",)),
        lambda scene: scene.clone("shop/staging@1", "preview", services=("shop",)),
        lambda scene: scene.promote("shop/staging@1", "production", services=("shop",)),
    ],
    ids=["rollback", "rollback-to", "clone", "promote"],
)
def test_damaged_code_is_never_handed_on_and_what_is_live_stays_live(
    damaged: Scene, attempt: Callable[[Scene], Change]
):
    with pytest.raises(Damage, match=r"blob|manifest"):
        attempt(damaged)
    assert damaged.head("shop/production") == 2
    assert damaged.text("shop/production") == "a2"
    assert damaged.deploy(shop="a3").changed


def test_damaged_code_is_not_written_out(damaged: Scene, store: Store, tmp_path: Path):
    code = damaged.version("shop/staging@1").code
    assert code
    with pytest.raises(Damage):
        unpack(store.manifest(code.digest), store.open_blob, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".svcctl"]


def test_a_touched_pack_is_trusted_again_once_it_is_found_whole(shop: Scene, store: Store):
    for path in (store.folder / "packs").iterdir():
        os.utime(path)
    assert shop.rollback().changed
    assert shop.text("shop/production") == "a1"
    assert not store.verify().problems


def test_deploying_damaged_code_again_heals_it(damaged: Scene, store: Store):
    damaged.deploy(auth="b1", shop="a1")
    assert not store.verify().problems
    damaged.rollback()
    assert damaged.text("shop/production") == "a1"
    store.gc(dry_run=False)
    assert not store.verify().leftovers


def test_a_damaged_file_that_other_code_shares_is_stored_again_with_it(store: Store):
    shared, changed = bundle_of("shared", main="one"), bundle_of("shared", main="two")
    store.upload(shared)
    flip(Ground(store), digest.of_blob(b"shared"))
    store.upload(changed)
    assert [file.path for file in store.manifest(changed.digest).files] == ["shared.py", "worker.py"]
    assert not store.verify().problems
    store.blobs.prove(shared.digest)
    assert store.blobs.suspects([shared.digest, changed.digest]) == []


# ---- gc


def test_gc_beside_deploys_takes_nothing_that_a_version_needs(shop: Scene, store: Store):
    """With no time of grace an upload that no version names yet may go: its deploy says so, and is typed again."""
    ended = threading.Event()

    def sweep() -> None:
        with closing(Store.open(store.folder)) as own:
            while not ended.is_set():
                own.gc(dry_run=False, grace=0)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(40):
            deploy_until_done(shop, f"text {number}")
    finally:
        ended.set()
        sweeper.join()
    assert [shop.text(f"shop/staging@{number}") for number in range(3, 43)] == [f"text {n}" for n in range(40)]
    found = store.verify()
    assert (found.problems, found.leftovers) == ((), ())


def test_gc_moves_what_is_needed_out_of_a_pack_that_is_mostly_not(shop: Scene, store: Store):
    large, small = bundle_of("shared", main="x" * 10_000), bundle_of("shared", main="small")
    store.upload(large)
    store.upload(small)
    requires = shop.project.services["shop"].requires
    shop.do(commands.Deploy, environment="staging", code={"shop": Code(digest=small.digest, requires=requires)})
    swept = store.gc(dry_run=False, grace=0)
    assert (swept.artifacts, swept.blobs) == (1, 2)
    assert store.verify().problems == ()
    assert store.verify().leftovers == ()
    with closing(store.open_blob(digest.of_blob(b"shared"))) as stream:
        assert stream.read() == b"shared"
    assert shop.clone("shop/staging", "preview", services=("shop",)).changed


# ---- rows


@pytest.fixture(scope="module")
def long_ago(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything that leaves rows behind, made once."""
    folder = tmp_path_factory.mktemp("long") / ".svcctl"
    with closing(Store.open(folder, actor=People(), clock=Clock())) as store:
        live_long(a_shop(store))
    return folder


@pytest.fixture
def long(long_ago: Path, tmp_path: Path) -> Iterator[Scene]:
    shutil.copytree(long_ago, tmp_path / ".svcctl")
    with closing(Store.open(tmp_path / ".svcctl", actor=People(), clock=Clock())) as store:
        yield Scene(store, Clock(), People())


def live_long(shop: Scene) -> None:
    shop.vars("production", shop={"LOG": "debug"})  # c5
    shop.tag("shop/production@2", "v1")  # c6
    shop.routes("shop/production", "shop.example.com/*")  # c7
    shop.protect("production")  # c8
    shop.clone("staging", "preview", ttl=60)  # c9
    shop.rename("preview", "demo")  # c10
    shop.tag("shop/demo@1", "gone")  # c11
    shop.do(
        commands.Configure,
        environment="staging",
        services=("shop",),
        bindings={"AUTH": Binding(service="auth", environment="production")},
    )  # c12
    shop.delete("demo")  # c13
    shop.create("demo")  # c14
    shop.deploy("demo", commit="c" * 40, shop="a3")  # c15
    shop.rollback(code_only=True)  # c16
    shop.rollback()  # c17


def store_of(scene: Scene) -> Store:
    assert isinstance(scene.backend, Store)
    return scene.backend


def tamper(store: Store, script: str) -> None:
    """With the database's own shell, as somebody who owns the file can."""
    with closing(sqlite3.connect(store.folder / "ledger.db")) as database:
        database.executescript(script)


def test_what_was_never_touched_is_sound(long: Scene):
    store = store_of(long)
    found = store.verify()
    assert (found.problems, found.leftovers, found.changes) == ((), (), 17)
    assert store.verify(found.head).since_head == "unchanged"
    long.deploy(shop="a4")
    assert store.verify(found.head).since_head == "grown by 1"


SHOP = "(SELECT id FROM environments WHERE service = 'shop' AND name = 'production')"
STAGING = "(SELECT id FROM environments WHERE service = 'shop' AND name = 'staging')"
AT_2, AT_3, AT_5 = (f"environment = {SHOP} AND number = {number}" for number in (2, 3, 5))
OTHER_NAME = "CAST(replace(CAST(body AS TEXT), 'Ada', 'Eve') AS BLOB)"

TAMPERED = {
    # ---- changes
    f"UPDATE changes SET body = {OTHER_NAME} WHERE number = 2": "change c2 was altered: its bytes",
    "UPDATE changes SET actor = 'Eve' WHERE number = 2": "change c2 was altered: its columns",
    "UPDATE changes SET at = '2020-01-01T00:00:00.000Z' WHERE number = 3": "change c3 was altered: its columns",
    "DELETE FROM changes WHERE number = 2": "change c2 is missing",
    "INSERT INTO changes SELECT 18, 'x', project, at, actor, digest, body FROM changes WHERE number = 4": "change c18",
    "UPDATE changes SET number = 99 WHERE number = 2; UPDATE changes SET number = 2 WHERE number = 3; "
    "UPDATE changes SET number = 3 WHERE number = 99": "is missing or is not the one it was written with",
    # ---- records
    f"UPDATE records SET body = {OTHER_NAME} WHERE {AT_2}": "shop/production@2: was altered",
    f"UPDATE records SET number = 7 WHERE {AT_5}": "shop/production@7: was altered",
    f"UPDATE records SET change = 1 WHERE {AT_2}": "shop/production@2: its change c1 is",
    f"UPDATE records SET code_since = 1 WHERE {AT_2}": "shop/production@2: its code",
    f"UPDATE records SET settings_since = 1 WHERE {AT_3}": "shop/production@3: its settings",
    f"UPDATE records SET deployed = NULL WHERE deployed = '{'c' * 40}'": "shop/demo@2: was altered: its columns",
    f"UPDATE records SET restored_settings = 1 WHERE {AT_5}": "shop/production@5",
    f"DELETE FROM records WHERE {AT_2}": "1 records before it are missing",
    f"DELETE FROM records WHERE {AT_5}": "shop/production: its newest 1 records are missing",
    f"DELETE FROM records WHERE environment = {SHOP}": "shop/production: all",
    f"INSERT INTO records SELECT environment, seq + 1, change, number + 1, digest, settings, settings_since, "
    f"settings_under, code, code_since, code_under, deployed, restored_settings, body FROM records "
    f"WHERE {AT_5}": "shop/production@6: does not follow",
    f"UPDATE records SET seq = -seq WHERE environment = {STAGING} AND number IN (1, 2); "
    f"UPDATE records SET seq = CASE number WHEN 1 THEN 3 ELSE 2 END WHERE environment = {STAGING} AND seq < 0": (
        "shop/staging@2: does not follow"
    ),
    # ---- settings
    "UPDATE settings SET body = CAST(replace(CAST(body AS TEXT), 'debug', 'trace') AS BLOB)": (
        "used by shop/production@3"
    ),
    f"DELETE FROM settings WHERE digest = (SELECT settings FROM records WHERE {AT_3})": (
        "shop/production@3: its settings"
    ),
    "INSERT INTO settings VALUES ('00', '{}')": "settings 00 do not match their digest: used by nothing",
    # ---- environments
    f"UPDATE environments SET name = 'live' WHERE id = {SHOP}": "shop/live: its row was altered: its columns",
    f"UPDATE environments SET head = 1 WHERE id = {SHOP}": "shop/production: its row was altered: its columns",
    f"UPDATE environments SET hostname = 'x.localhost' WHERE id = {SHOP}": "shop/production: its row was altered",
    f"UPDATE environments SET expires = '2020' WHERE id = {SHOP}": "shop/production: its row was altered",
    f"UPDATE environments SET living = NULL WHERE id = {SHOP}": "shop/production: its row was altered",
    f"UPDATE environments SET seq = seq - 1 WHERE id = {SHOP}": "shop/production: its newest record",
    f"UPDATE environments SET tip = 'x' WHERE id = {SHOP}": "shop/production: its newest record",
    f"UPDATE environments SET identity = CAST(replace(CAST(identity AS TEXT), '\"protected\":true,', '') AS BLOB) "
    f"WHERE id = {SHOP}": "shop/production: its row was altered: its records say otherwise of protected",
    f"UPDATE environments SET identity = 'x' WHERE id = {SHOP}": "its identity is unreadable",
    f"DELETE FROM environments WHERE id = {SHOP}": "records of an environment that is missing",
    # ---- what the chains led to
    "DELETE FROM tags WHERE name = 'v1'": "shop/production: its row was altered: its tags",
    "UPDATE tags SET number = 1 WHERE name = 'v1'": "shop/production: its row was altered: its tags",
    "DELETE FROM routes": "shop/production: its row was altered: its routes",
    "DELETE FROM bindings": "its bindings",
    "UPDATE services SET project = 'other'": "the table of services was altered",
    "UPDATE projects SET domain = 'example.com'": "the table of projects was altered",
}


@pytest.mark.parametrize(("script", "first"), TAMPERED.items(), ids=[script[:60] for script in TAMPERED])
def test_verify_names_the_first_row_that_was_tampered_with(long: Scene, script: str, first: str):
    store = store_of(long)
    tamper(store, script)
    problems = store.verify().problems
    assert problems
    assert first in problems[0], problems


# ---- rewriting that is consistent in itself


def rewrite_newest(store: Store) -> None:
    """As somebody would who knows the format: a record, its digest and all that names it."""
    with closing(sqlite3.connect(store.folder / "ledger.db")) as database:
        id, seq, body = database.execute(
            f"SELECT environment, seq, body FROM records WHERE environment = {SHOP} ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        record = wire.decode(body, Record)
        forged = wire.canonical(
            msgspec.structs.replace(record, entry=msgspec.structs.replace(record.entry, actor="Eve"))
        )
        name = digest.of("record", forged)
        database.execute(
            "UPDATE records SET body = ?, digest = ? WHERE environment = ? AND seq = ?", (forged, name, id, seq)
        )
        database.execute("UPDATE environments SET tip = ? WHERE id = ?", (name, id))
        database.commit()


@pytest.mark.usefixtures("shop")
def test_a_kept_head_tells_of_history_rewritten_with_every_digest_made_to_match(store: Store):
    kept = store.verify().head
    rewrite_newest(store)
    assert store.verify().problems == ()
    found = store.verify(kept)
    assert found.since_head == "rewritten: at or before change c4"
    assert found.problems == (f"history is not what {kept} was: rewritten: at or before change c4",)


def test_a_kept_head_tells_of_changes_that_are_gone(shop: Scene, store: Store, tmp_path: Path):
    """A store put back from an older copy is sound in itself."""
    older = tmp_path / "older"
    with closing(sqlite3.connect(older)) as copy, closing(sqlite3.connect(store.folder / "ledger.db")) as database:
        database.backup(copy)
    shop.deploy(shop="a5")
    shop.deploy(shop="a6")
    kept = store.verify().head
    with closing(sqlite3.connect(older)) as copy, closing(sqlite3.connect(store.folder / "ledger.db")) as database:
        copy.backup(database)
    found = store.verify(kept)
    assert found.since_head == "rewritten: changes c5 to c6 are gone"


def test_text_where_bytes_were_is_damage_too(long: Scene):
    """`UPDATE … SET body = replace(body, …)` in the database's shell makes text of a blob."""
    store = store_of(long)
    tamper(store, f"UPDATE records SET body = replace(body, 'Ada', 'Eve') WHERE {AT_5}")
    assert "shop/production@5: was altered: its bytes" in store.verify().problems[0]
    with pytest.raises(Damage, match="does not match its digest"):
        long.rollback()


@pytest.mark.parametrize("head", ["", "4", "4:00", "x:" + "0" * 64, "4:" + "G" * 64])
def test_what_is_no_head_is_refused(store: Store, head: str):
    with pytest.raises(UsageError, match="is no head"):
        store.verify(head)


def test_an_altered_row_is_damage_to_whoever_reads_it(shop: Scene, store: Store):
    tamper(store, f"UPDATE environments SET identity = 'x' WHERE id = {SHOP}")
    with pytest.raises(Damage, match="unreadable"):
        shop.rollback()

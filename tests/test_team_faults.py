"""What goes wrong between machines: writers in each other's way, a database that hangs, clocks that disagree, programs
of two versions on one store."""

import asyncio
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
import remotely
from apis import BODY, Served, error_of
from clocks import skewed
from cutting import Proxy, Trick
from postgres import KEY, Server
from processes import Acme
from scene import SHOP_AND_AUTH, Clock, People, Scene, bundle
from test_api_processes import serving

import svcctl
from svcctl import ages, commands, config, digest, keyvalues, tokens, wire
from svcctl.backend.messages import KVEntry, frame_head
from svcctl.backend.remote import Remote
from svcctl.backend.store import Store, gc
from svcctl.backend.store.database import Hold, Lost
from svcctl.backend.store.kv import KeyValueStore
from svcctl.backend.store.postgres import masked
from svcctl.errors import NotFound, Refused, Unreachable
from svcctl.keyvalues import Entry
from svcctl.model import Grant, Refusal, Role
from svcctl.runtime.kv import KVNamespace
from svcctl.sealing import SecretValue
from svcctl.sealing.keys import new_master_key

ENVIRON = {"SVCCTL_SECRET_KEY": KEY, "SVCCTL_SECRET_KEY_NEXT": KEY}
REFUSAL = Refusal(at="", actor="eve", peer="10.0.0.9", what="deploy", why="no")


def opened(url: str, **environ: str) -> Store:
    return Store.open(url, actor=People(), clock=Clock(), environ=ENVIRON | environ)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with closing(opened(database)) as store:
        yield store


# ---- writers in each other's way


def test_refusals_of_one_moment_are_all_kept(store: Store, database: str):
    ready = threading.Barrier(8)

    def refuse(which: int) -> None:
        with closing(opened(database)) as own:
            ready.wait()
            for turn in range(5):
                own.refused(Refusal(at="", actor=f"eve{which}", peer="", what=str(turn), why="no"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(refuse, range(8)))
    kept = store.refusals(limit=100).refusals
    assert {(each.actor, each.what) for each in kept} == {(f"eve{n}", str(turn)) for n in range(8) for turn in range(5)}


TRAP = """
CREATE SEQUENCE statements;
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF nextval('statements') = 1000 THEN RAISE deadlock_detected; END IF; RETURN NULL; END $$;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('CREATE TRIGGER trap BEFORE INSERT OR UPDATE OR DELETE ON %I EXECUTE FUNCTION trap()', name);
    END LOOP;
END $$;
"""


class Trapped:
    """A database whose nth statement that writes ends in a deadlock."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(TRAP)

    def close(self) -> None:
        self._connection.close()

    def set(self, statement: int) -> None:
        self._connection.execute("SELECT setval('statements', %s)", (1000 - statement,))

    @property
    def sprung(self) -> bool:
        return self._connection.execute("SELECT last_value >= 1000 FROM statements").fetchone() == (True,)


@pytest.fixture(scope="module")
def trapped(server: Server) -> Iterator[tuple[Trapped, Store]]:
    url = server.database()
    with closing(Trapped(url)) as trap, closing(opened(url)) as store:
        scene = Scene(store, Clock(), People())
        scene.deploy(shop="a1", auth="b1")
        scene.secret("shop/staging", "KEY", "hunter2")
        yield trap, store
    server.drop(url)


def _upload(store: Store, turn: int) -> Callable[[], object]:
    artifact = bundle(f"uploaded {turn}")
    return lambda: store.upload(artifact)


def _upload_again(store: Store, turn: int) -> Callable[[], object]:
    artifact = bundle(f"uploaded long ago {turn}")
    store.upload(artifact)
    store.database.execute("UPDATE artifacts SET uploaded = 0")
    return lambda: store.upload(artifact)


def _store_blobs(store: Store, turn: int) -> Callable[[], object]:
    content = f"blob {turn}".encode()
    name = digest.of_blob(content)

    def send() -> None:
        store.store_blobs([(name, len(content), bundle(content.decode()).open(name))])

    return send


def _register(store: Store, turn: int) -> Callable[[], object]:
    artifact = bundle(f"registered {turn}")
    (file,) = artifact.manifest.files
    store.store_blobs([(file.blob, file.size, artifact.open(file.blob))])
    return lambda: store.register(artifact.content)


def _gc(store: Store, turn: int) -> Callable[[], object]:
    store.upload(bundle(f"nobody's {turn}"))
    return lambda: gc.sweep(store.database, store.blobs, dry_run=False, grace=0)


def _put(store: Store, turn: int) -> Callable[[], object]:
    return lambda: store.keyvalues.put_all(f"put {turn}", [("a", Entry(b"1", None, None)), ("b", Entry(b"2", None, 5))])


def _delete_key(store: Store, turn: int) -> Callable[[], object]:
    store.keyvalues.put("deleted", str(turn), b"", None, None)
    return lambda: store.keyvalues.delete("deleted", str(turn))


def _copy_namespace(store: Store, turn: int) -> Callable[[], object]:
    store.keyvalues.put("source", "k", b"v", None, None)
    store.keyvalues.put(f"copy {turn}", "k", b"older", None, None)
    return lambda: store.keyvalues.copy("source", f"copy {turn}")


def _drop(store: Store, turn: int) -> Callable[[], object]:
    store.keyvalues.put(f"dropped {turn}", "k", b"", None, None)
    return lambda: store.keyvalues.drop((f"dropped {turn}",))


WRITES: dict[str, Callable[[Store, int], Callable[[], object]]] = {
    "refused": lambda store, _: lambda: store.refused(REFUSAL),
    "used": lambda store, _: lambda: store.used("token"),
    "upload": _upload,
    "upload again": _upload_again,
    "store_blobs": _store_blobs,
    "register": _register,
    "gc": _gc,
    "kv put": _put,
    "kv delete": _delete_key,
    "kv copy": _copy_namespace,
    "kv drop": _drop,
    "rewrap": lambda store, _: store.rewrap,
}


@pytest.mark.parametrize("name", WRITES)
def test_a_deadlock_at_any_statement_of_whatever_writes_is_seen_by_nobody(name: str, trapped: tuple[Trapped, Store]):
    trap, store = trapped
    at_each_statement(trap, lambda turn: WRITES[name](store, turn))
    assert store.verify().problems == ()


def at_each_statement(trap: Trapped, prepared: Callable[[int], Callable[[], object]]) -> None:
    for turn in range(1, 60):
        work = prepared(turn)
        trap.set(turn)
        work()
        if not trap.sprung:
            assert turn > 1
            return
    pytest.fail("it has no end")


def test_history_that_arrives_is_in_nobody_s_way(server: Server, tmp_path: Path):
    url = server.empty_database()
    key, salt = new_master_key("a test"), b"salt"
    with (
        closing(Store.open(tmp_path / "store", environ=ENVIRON)) as source,
        closing(Store.open(url, environ=ENVIRON)) as target,
        closing(Trapped(url)) as trap,
    ):
        scene = Scene(source, Clock(), People())
        for artifact in ("a1", "a2", "b1"):
            target.upload(bundle(artifact))

        def append(turn: int) -> Callable[[], object]:
            scene.deploy(shop=f"a{1 + turn % 2}", auth="b1")
            return lambda: target.append(source.segment(turn - 1, turn))

        def take(_: int) -> Callable[[], object]:
            target.database.execute("DELETE FROM secrets")
            return lambda: target.take_secrets(sent, key)

        at_each_statement(trap, append)
        scene.secret("shop/staging", "KEY", "hunter2")
        trap.set(999)  # nothing is in the way of this one
        target.append(source.segment(scene.newest_change() - 1, scene.newest_change()))
        sent = source.seal_all(key, salt)
        at_each_statement(trap, take)
        assert target.standing() == source.standing()
        assert target.verify().problems == ()
    server.drop(url)


def waiting(url: str, count: int) -> None:
    """Until so many wait for others' locks."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(5000):
            if connection.execute(
                "SELECT count(*), pg_sleep(0.002) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone() == (count, ""):
                return
    pytest.fail("nobody waits")


def test_the_one_that_a_real_deadlock_ends_begins_anew(database: str):
    """Another program has the second entry, and waits for the namespace; a put has that, and waits for the entry."""
    with (
        closing(opened(f"{database}?options=-c%20deadlock_timeout%3D10ms")) as store,
        psycopg.connect(f"{database}?options=-c%20deadlock_timeout%3D1h") as other,
        psycopg.connect(database) as first,
        ThreadPoolExecutor(2) as pool,
    ):
        store.keyvalues.put_all("carts", [("a", Entry(b"1", None, None)), ("b", Entry(b"1", None, None))])
        other.execute("SELECT 1 FROM entries WHERE key = 'b' FOR UPDATE")
        first.execute("SELECT 1 FROM entries WHERE key = 'a' FOR UPDATE")
        changes = [("a", Entry(b"2", None, None)), ("b", Entry(b"2", None, None))]
        putting = pool.submit(store.keyvalues.put_all, "carts", changes)
        waiting(database, 1)
        taking = pool.submit(other.execute, "SELECT 1 FROM namespaces FOR UPDATE")
        waiting(database, 2)
        first.rollback()
        taking.result()
        other.rollback()
        putting.result()
        found = store.keyvalues.get("carts", "b", 0.0)
        assert found is not None
        assert found.value == b"2"


def test_gc_takes_no_bytes_for_abandoned_that_are_being_named(store: Store, database: str):
    """However long ago they came, and whatever its clock says."""
    content, looked = b"x" * 1_500_000, threading.Event()
    name = digest.of_blob(content)

    def name_slowly() -> None:
        with store.blobs._new_pack() as pack:
            pack.add(name, content)
            pack.finish()
            store.database.execute("UPDATE chunks SET stored = 0")
            with store.database.writing():
                store.database.hold(Hold.STORING, alone=False)
                store.blobs._record(pack, frozenset())
                store.database.execute("UPDATE chunks SET stored = 0")
                looked.set()
                waiting(database, 1)

    with ThreadPoolExecutor(2) as pool:
        naming = pool.submit(name_slowly)
        looked.wait()
        assert store.blobs.shelf.leftovers(remove=True) == ()
        naming.result()
    assert store.missing([name]) == frozenset()
    with closing(store.open_blob(name)) as stream:
        assert stream.read() == content


def test_a_copy_into_a_namespace_that_begins_meanwhile_is_made(store: Store, database: str):
    store.keyvalues.put("source", "k", b"v", None, None)
    with psycopg.connect(database) as other, ThreadPoolExecutor(1) as pool:
        other.execute("INSERT INTO namespaces (name) VALUES ('target')")
        copying = pool.submit(store.keyvalues.copy, "source", "target")
        waiting(database, 1)
        other.commit()
        assert copying.result() == 1
    assert store.keyvalues.get("target", "k") == Entry(b"v")


# ---- a database that is away, or hangs


def test_a_transaction_that_was_idle_for_too_long_is_lost(store: Store, database: str):
    def dawdle() -> None:
        with store.database.writing():
            (pid,) = store.database.one("SELECT pg_backend_pid()") or ()
            store.database.execute("SET LOCAL idle_in_transaction_session_timeout = '5ms'")
            with psycopg.connect(database, autocommit=True) as other:
                while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone():
                    pass
            store.database.one("SELECT 1")

    with pytest.raises(Lost, match="can't be reached: server closed the connection"):
        dawdle()
    assert store.projects() == ()


def test_kv_waits_for_another_s_lock_no_longer_than_it_says(store: Store, database: str):
    with psycopg.connect(database, application_name="a program that hangs") as holder:
        hasty = KeyValueStore(store.database, patience=0.05)
        hasty.put("carts", "k", b"v", None, None)
        holder.execute("SELECT 1 FROM entries FOR UPDATE")
        with pytest.raises(Unreachable, match="locked by a program that hangs") as caught:
            hasty.put("carts", "k", b"w", None, None)
        assert "waited 0.05 s" in (caught.value.hint or "")
        assert hasty.get("carts", "k", 0.0) == Entry(b"v", None, None), "readers never wait"
        with pytest.raises(Unreachable):
            hasty.delete("carts", "k")
        holder.rollback()
        hasty.delete("carts", "k")
        assert hasty.get("carts", "k", 0.0) is None


CALLS: dict[str, Callable[[KeyValueStore], object]] = {
    "get": lambda keyvalues: keyvalues.get("carts", "k", 0.0, most=65_536),
    "list": lambda keyvalues: keyvalues.list("carts", "", 10, None, 0.0),
    "put": lambda keyvalues: keyvalues.put("carts", "k", b"v", None, None),
    "delete": lambda keyvalues: keyvalues.delete("carts", "other"),
}


@pytest.mark.parametrize("call", CALLS)
def test_kv_is_told_that_a_database_hangs_and_finds_it_again(call: str, server: Server, store: Store):
    hasty = KeyValueStore(store.database, patience=0.05)
    hasty.put("carts", "k", b"v", None, None)
    with server.stopped(), pytest.raises(Unreachable, match="can't be reached: no answer within"):
        CALLS[call](hasty)
    assert hasty.get("carts", "k", 0.0) == Entry(b"v", None, None)


def secret_of(store: Store, role: Role = "admin") -> SecretValue:
    secret = tokens.new()
    grant = Grant(name=f"the {role}", role=role)
    store.apply(commands.CreateToken(id=commands.new_id(), grant=grant, hash=tokens.hash_of(secret)))
    return secret


def test_an_api_without_its_database_says_so_and_not_where_that_is(server: Server, store: Store, database: str):
    secret = secret_of(store)
    with closing(Served(lambda: opened(database))) as api, closing(Remote(api.url, secret)) as remote:
        assert remote.projects() == ()
        server.kill()
        try:
            with api.client(secret.reveal().decode()) as client:
                answers = [client.get("/v1/projects"), client.get("/health/ready"), client.get("/health/live")]
        finally:
            server.start()
        assert remote.projects() == ()
    assert [each.status_code for each in answers] == [503, 503, 200]
    for told in answers[:2]:
        error = told.json()["error"]
        assert (error["code"], error["message"]) == (
            "unreachable",
            "the store behind this API can't be reached, or is busy",
        )
        assert told.headers["x-request-id"] in error["hint"]
        for private in (str(server.port), "127.0.0.1", "postgres", database.rpartition("/")[2]):
            assert private not in told.text
    details = [line["detail"] for line in api.log if line["status"] == 503]
    name = masked(database)
    assert details == [f"{name} can't be reached: connection refused"] * 2
    assert not [line for line in api.log if line["status"] == 200 and "detail" in line]


@pytest.mark.parametrize("point", ["upload.before-commit", "upload.committed"])
def test_an_api_killed_while_its_database_takes_an_upload(point: str, store: Store, database: str, tmp_path: Path):
    acme = Acme.new(tmp_path)
    secret = secret_of(store).reveal().decode()
    contents = [b"small", b"l" * 2_500_000]
    body = b"".join(frame_head(digest.of_blob(each), len(each)) + each for each in contents)
    names = [digest.of_blob(each) for each in contents]
    with serving(acme, "--store", database, SVCCTL_FAULT=point, **ENVIRON) as api, api.client(secret) as client:
        with pytest.raises(httpx.TransportError):
            client.post("/v1/blobs", content=body)
        assert api.gone() == -signal.SIGKILL
    assert store.missing(names) == (frozenset() if point == "upload.committed" else set(names))
    store.store_blobs((name, len(each), io.BytesIO(each)) for name, each in zip(names, contents, strict=True))
    for name, content in zip(names, contents, strict=True):
        with closing(store.open_blob(name)) as stream:
            assert stream.read() == content
    store.database.execute("UPDATE chunks SET stored = 0")
    swept = store.gc(dry_run=False)
    assert len(swept.leftovers) == (point != "upload.committed")
    assert store.missing(names) == frozenset()
    found = store.verify()
    assert (found.problems, found.leftovers) == ((), ())


def test_an_upload_whose_commit_is_not_answered_keeps_its_bytes(server: Server, store: Store, database: str):
    """The connection is cut at each of the last bytes that come back."""
    with Proxy(server.port) as proxy:
        url = database.replace(f":{server.port}/", f":{proxy.url.rpartition(':')[2]}/")

        def upload(text: str) -> None:
            with closing(opened(url)) as cut:
                cut.upload(bundle(text))

        upload("whole")
        whole, lost = proxy.down, 0
        for short in range(1, 60, 4):
            proxy.next(Trick(down=whole - short))
            try:
                upload(f"cut {short:02}")
            except Unreachable:
                lost += 1
        assert lost
    assert store.verify().problems == ()


# ---- clocks that disagree

HOUR = 3600


def test_replicas_an_hour_apart_go_by_their_database(database: str, tmp_path: Path):
    """Times run on in the order of numbers, a token is good until its end, an entry too, whichever is asked."""
    acme = Acme.new(tmp_path)
    with closing(Store.open(database)) as store:
        began = store.now()
        ends = ages.timestamp(began + timedelta(minutes=30))
        secret = tokens.new()
        grant = Grant(name="ada", role="admin", expires=ends)
        store.apply(commands.CreateToken(id=commands.new_id(), grant=grant, hash=tokens.hash_of(secret)))
        token = secret.reveal().decode()
        with ExitStack() as stack:
            replicas = [
                stack.enter_context(serving(acme, "--store", database, **skewed(tmp_path / "skewed", each), **ENVIRON))
                for each in (HOUR, -HOUR)
            ]
            ahead, behind = [stack.enter_context(each.client(token)) for each in replicas]
            for number, client in enumerate((ahead, behind, ahead, behind)):
                assert create(client, f"e{number}").status_code == 200
            life = namespace_in(store)
            entry = wire.canonical([KVEntry(key="k", value=b"v", expires=7, ttl=600)])
            for client in (behind, ahead):
                assert client.put(f"/v1/kv/{life}/entries", content=entry, headers=BODY).status_code == 200
                for asked in (behind, ahead):
                    assert asked.get(f"/v1/kv/{life}/entry?key=k").json()["entry"]["value"] == "dg=="
            said = behind.get("/v1/changes?project=acme").json()["changes"]
        ats = [change["at"] for change in reversed(said)]
        assert len(ats) == 5
        assert ats == sorted(ats)
        assert ages.timestamp(began) <= ats[0]
        assert ats[-1] <= ages.timestamp(store.now())


def create(client: httpx.Client, name: str) -> httpx.Response:
    project = config.load_text(SHOP_AND_AUTH).as_sent()
    command = commands.CreateEnvironment(id=commands.new_id(), project=project, environment=name)
    return client.post("/v1/changes", content=wire.canonical(command), headers=BODY)


def namespace_in(store: Store) -> str:
    return keyvalues.namespace(store.environment("shop", "e0").id, 0, "carts")


@pytest.mark.parametrize("place", ["folder", "postgres"])
def test_what_a_node_with_a_wrong_clock_keeps_for_ten_minutes_is_kept_for_ten_minutes(
    place: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    where = tmp_path / "store" if place == "folder" else request.getfixturevalue("database")
    with closing(Store.open(where)) as store:
        Scene(store, Clock(), People()).create("e0")
        life = namespace_in(store)
        with remotely.api(lambda: store, People()) as transport:
            remote = remotely.remote(transport)
            for skew in (-HOUR, HOUR):
                wrong = SimpleNamespace(time=lambda skew=skew: time.time() + skew)
                monkeypatch.setattr("svcctl.runtime.kv.time", wrong)
                namespace = KVNamespace(remote.keyvalues, life)
                asyncio.run(namespace.put("k", "v", expiration_ttl=600))
                assert asyncio.run(namespace.get("k")) == "v"
                found = store.keyvalues.get(life, "k")
                assert found is not None
                assert abs((found.expires or 0) - store.now().timestamp() - 600) < 60


# ---- two versions at once

NEWER = """
import svcctl
from svcctl.backend.store import migrations

svcctl.__version__ = "9.9.9"
newer = (*migrations.MIGRATIONS, ("CREATE TABLE of_tomorrow (id TEXT PRIMARY KEY)",))
migrations.migrate.__defaults__ = ("ledger", newer)
migrations.refuse_newer.__defaults__ = (len(newer),)
"""


def test_replicas_of_two_versions_on_one_database(server: Server, tmp_path: Path):
    """The older one goes on reading, changes nothing more, and says so to its balancer."""
    acme = Acme.new(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(NEWER)
    database = server.database()
    with closing(opened(database)) as store:
        secret = secret_of(store)
    with ExitStack() as stack:
        older = stack.enter_context(serving(acme, "--store", database, **ENVIRON))
        old = stack.enter_context(older.client(secret.reveal().decode()))
        assert create(old, "e0").status_code == 200
        newer = stack.enter_context(serving(acme, "--store", database, PYTHONPATH=str(tmp_path), **ENVIRON))
        new = stack.enter_context(newer.client(secret.reveal().decode()))
        assert create(new, "e1").status_code == 200
        refused = create(old, "e2")
        assert error_of(refused) == (422, "refused")
        assert "it was written by a newer svcctl: upgrade this one" in refused.json()["error"]["hint"]
        names = [
            [found["name"] for found in client.get("/v1/environments?project=acme&service=shop").json()]
            for client in (old, new)
        ]
        assert names == [["e0", "e1", "production"]] * 2
        ready = [client.get("/health/ready").status_code for client in (old, new)]
        assert ready == [422, 200]
        late = acme("api", "--port", "0", "--store", database, **ENVIRON)
        assert (late.status, "written by a newer svcctl" in late.err) == (1, True)
        with closing(Remote(newer.url, secret)) as remote:
            assert [each.name for each in remote.environments("acme", ("shop",))] == names[0]
            with pytest.raises(NotFound) as caught:
                remote._session.ask(object, "GET", "/v1/what-was-once-there")
            assert caught.value.hint == (
                f"this API is svcctl 9.9.9, the request is of {svcctl.__version__}: bring the older one up to date"
            )
    server.drop(database)


def test_a_folder_that_a_newer_program_took_over_is_changed_no_more(tmp_path: Path):
    with closing(Store.open(tmp_path / "store")) as old:
        scene = Scene(old, Clock(), People())
        scene.create("e0")
        old.database.set_schema("ledger", 99)
        with pytest.raises(Refused, match="this store is of schema 99") as caught:
            scene.create("e1")
        assert "newer svcctl" in (caught.value.hint or "")
        assert [each.name for each in old.environments("acme", ("shop",))] == ["e0", "production"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"kind": "teleport"}, "Invalid value 'teleport'"),
        ({"dry": True}, "a command has no $.dry here"),
        ({"project": {"name": "acme", "services": {"shop": {"gpu": 2}}}}, "no $.project.services.shop.gpu here"),
    ],
)
def test_what_a_newer_client_asks_for_is_not_left_out_in_silence(more: dict[str, Any], says: str, tmp_path: Path):
    with closing(Store.open(tmp_path / "store")) as store:
        secret = secret_of(store)
        with closing(Served(lambda: Store.open(tmp_path / "store"))) as api:
            project = config.load_text(SHOP_AND_AUTH).as_sent()
            command = commands.CreateEnvironment(id=commands.new_id(), project=project, environment="e0")
            body = msgspec.json.decode(wire.canonical(command))
            with api.client(secret.reveal().decode(), **{"svcctl-version": "9.9.9"}) as client:
                refused = client.post("/v1/changes", json=body | more)
                assert client.post("/v1/changes", json=wire.full(command)).status_code == 200, "every field, in clear"
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, "usage")
        assert says in error["message"]
        assert error["hint"] == (
            f"this API is svcctl {svcctl.__version__}, the request is of 9.9.9: bring the older one up to date"
        )

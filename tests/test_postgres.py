"""A store on PostgreSQL: many writers side by side, a server that is killed, roles that can't rewrite history, damage
in tables. What every backend promises is in test_rules_conformance.py and beside it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from postgres import KEY, Server, stored
from scene import Bundle, Clock, People, Scene, bundle
from test_damage import TAMPERED, live_long
from test_properties import Pair, Step, step

from svcctl import commands, digest
from svcctl.backend.store import Store
from svcctl.backend.store.chunks import Chunks
from svcctl.backend.store.migrations import MIGRATIONS
from svcctl.backend.store.postgres import grants, masked
from svcctl.errors import Conflict, Damage, NotFound, Refused, SvcctlError, Unreachable, UsageError
from svcctl.model import Binding, Change
from svcctl.names import PRODUCTION

ENVIRON = {"SVCCTL_SECRET_KEY": KEY}


def opened(url: str, **environ: str) -> Store:
    return Store.open(url, actor=People(), clock=Clock(), environ=ENVIRON | environ)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with closing(opened(database)) as store:
        yield store


@pytest.fixture
def shop(store: Store) -> Scene:
    """a1 ran in production and was replaced by a2, which is live."""
    scene = Scene(store, Clock(), People())
    scene.deploy(auth="b1", shop="a1")  # c1
    scene.promote("staging", "production")  # c2
    scene.deploy(shop="a2")  # c3
    scene.promote("staging", "production")  # c4
    return scene


def numbers_of_changes(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM changes ORDER BY number")]


def together(*calls: Callable[[], Change]) -> list[Change | SvcctlError]:
    """All at once; what each returned or raised."""
    ready = threading.Barrier(len(calls))

    def call(one: Callable[[], Change]) -> Change | SvcctlError:
        ready.wait()
        try:
            return one()
        except SvcctlError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def variable(scene: Scene, environment: str, name: str) -> commands.Configure:
    ask = {"id": commands.new_id(), "project": scene.project, "environment": environment, "services": ("shop",)}
    return commands.Configure(**ask, vars={name: "set"})


# ---- writers


@pytest.mark.xdist_group("both cores")
def test_t9_fifty_writers_to_one_environment(shop: Scene, store: Store, database: str):
    """Each makes three changes; two processes' worth of connections, for threads that share a store and those that
    don't."""
    other = opened(database)
    stores = (store, other)

    def write(writer: int) -> list[int]:
        made = [stores[writer % 2].apply(variable(shop, "staging", f"W{writer}_{turn}")) for turn in range(3)]
        return [version.number for change in made for version in change.versions]

    with closing(other), ThreadPoolExecutor(50) as pool:
        printed = list(pool.map(write, range(50)))
    assert all(numbers == sorted(numbers) for numbers in printed)
    assert sorted(number for numbers in printed for number in numbers) == list(range(3, 153))
    assert len([name for name in shop.settings("shop/staging").vars if name.startswith("W")]) == 150
    assert numbers_of_changes(database) == list(range(1, 155))
    assert store.verify().problems == ()


@pytest.mark.xdist_group("both cores")
def test_writers_of_all_kinds_leave_what_one_after_the_other_would(shop: Scene, store: Store, database: str):
    """Change numbers have no gap although some are refused, and every follower saw all below what it was told."""
    ended = threading.Event()

    def write(writer: int) -> None:
        own = Scene(opened(database), Clock(), People())
        mine = f"env{writer}"
        with closing(own.backend):
            for turn in range(4):
                own.clone("staging", mine)
                own.vars(mine, shop={"TURN": str(turn)})
                own.deploy(mine, shop=f"text {writer} {turn}")
                own.vars("staging", auth={f"W{writer}_{turn}": "x"})
                own.promote(mine, "staging", services=("shop",))
                own.rename(mine, f"{mine}-old")
                own.tag(f"shop/{mine}-old", f"t{turn}")
                own.delete(f"{mine}-old")

    def follow() -> int:
        seen = 0
        with closing(opened(database)) as own:
            while not ended.is_set() or own.wait(seen, 0) > seen:
                newest = own.wait(seen, 0.05)
                followed = own.follow(seen)
                assert followed.number >= newest
                with psycopg.connect(database) as connection:
                    (count,) = connection.execute(
                        "SELECT count(*) FROM changes WHERE number <= %s", (followed.number,)
                    ).fetchone() or (0,)
                assert count == followed.number
                seen = followed.number
        return seen

    with ThreadPoolExecutor(10) as pool:
        followers = [pool.submit(follow) for _ in range(2)]
        writers = [pool.submit(write, number) for number in range(8)]
        try:
            for writer in writers:
                writer.result()
        finally:
            ended.set()
        assert {follower.result() for follower in followers} == {4 + 8 * 4 * 8}
    assert numbers_of_changes(database) == list(range(1, 5 + 8 * 4 * 8))
    assert store.verify().problems == ()
    assert shop.numbers("auth/staging") == list(range(33, 0, -1))
    assert shop.numbers("shop/staging") == list(range(34, 0, -1))


def test_who_wants_another_environment_waits_for_nobody(shop: Scene, store: Store, database: str):
    with psycopg.connect(database) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT 1 FROM environments WHERE service = 'shop' AND name = 'production' FOR UPDATE")
        waiting = pool.submit(store.apply, variable(shop, "production", "A"))
        assert store.apply(variable(shop, "staging", "B")).number == 5
        assert not waiting.done()
        holder.rollback()
        assert waiting.result().number == 6


def test_t13_a_holder_that_hangs_is_named_to_those_who_waited_too_long(shop: Scene, database: str):
    with (
        psycopg.connect(database, application_name="a program that hangs") as holder,
        closing(opened(database, SVCCTL_LOCK_TIMEOUT="0.05")) as hasty,
    ):
        holder.execute("SELECT 1 FROM environments FOR UPDATE")
        with pytest.raises(Unreachable) as caught:
            hasty.apply(variable(shop, "production", "A"))
        assert "the store is locked by a program that hangs since 20" in caught.value.message
        assert "waited 0.05 s" in (caught.value.hint or "")
        assert hasty.environment("shop", "production").head == 2, "readers never wait"
        holder.rollback()
        assert hasty.apply(variable(shop, "production", "A")).number == 5


@settings(max_examples=8, phases=[Phase.generate])
@given(st.lists(step, min_size=12, max_size=30))
def test_t10_the_store_and_the_model_agree(server: Server, steps: list[Step]):
    server.clear()
    clock, people = Clock(), People()
    with closing(Store.open(server.cleared, actor=people, clock=clock, environ=ENVIRON)) as store:
        pair = Pair(store, clock, people)
        for kind, fields in steps:
            pair.run(kind, fields)
        pair.compare_everything()
        assert store.verify().problems == ()


# ---- two at once, of whom one must see the other


def repeatedly(shop: Scene, *calls: Callable[[Scene, int], Change], times: int = 6) -> Iterator[list[object]]:
    for turn in range(times):
        yield list(together(*(partial(call, shop, turn) for call in calls)))


def changed(answers: list[object]) -> list[Change]:
    return [each for each in answers if isinstance(each, Change) and each.changed]


def test_an_environment_is_not_deleted_while_another_binds_itself_to_it(shop: Scene, store: Store):
    def bind(scene: Scene, turn: int) -> Change:
        binding = {"AUTH": Binding(service="auth", environment=f"e{turn}")}
        return scene.do(commands.Configure, environment="staging", services=("shop",), bindings=binding)

    for turn in range(6):
        shop.clone("staging", f"e{turn}", services=("auth",))
    for answers in repeatedly(shop, bind, lambda scene, turn: scene.delete(f"e{turn}", services=("auth",))):
        assert len(changed(answers)) == 1, answers
        assert all(isinstance(each, Refused | NotFound | Change) for each in answers)
    assert store.verify().problems == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda scene, turn: scene.create(f"e{turn}"), lambda scene, turn: scene.clone("staging", f"e{turn}")),
        (
            lambda scene, turn: scene.routes("shop/staging", f"r{turn}.example.com/*"),
            lambda scene, turn: scene.routes("auth/staging", f"r{turn}.example.com/*"),
        ),
        (
            lambda scene, turn: scene.tag("shop/staging@1", f"v{turn}"),
            lambda scene, turn: scene.tag("shop/staging@2", f"v{turn}"),
        ),
    ],
    ids=["name", "route", "tag"],
)
def test_what_two_take_at_once_one_gets_and_the_other_is_told(
    shop: Scene, store: Store, one: Callable[[Scene, int], Change], other: Callable[[Scene, int], Change]
):
    for answers in repeatedly(shop, one, other):
        assert len(changed(answers)) == 1, answers
        refused = next(each for each in answers if isinstance(each, SvcctlError))
        assert isinstance(refused, Refused | Conflict), refused
        assert "another change took it" not in refused.message, "it is refused as if it had come later"
    assert store.verify().problems == ()


def test_new_services_of_two_projects_do_not_overwrite_each_other(store: Store, database: str):
    def deploy(name: str) -> Change:
        file = f'project = "{name}"\ndefault_environment = "staging"\n[services.shared]\nmain = "a/worker.py"\n'
        with closing(opened(database)) as own:
            return Scene(own, Clock(), People(), file).deploy(shared=name)

    made = together(lambda: deploy("one"), lambda: deploy("two"))
    assert len(changed(list(made))) == 1
    (refused,) = (each for each in made if isinstance(each, SvcctlError))
    assert "service 'shared' belongs to project" in refused.message
    assert store.verify().problems == ()


def test_i8_the_same_command_at_once_is_one_change(shop: Scene, store: Store):
    command = variable(shop, "staging", "ONCE")
    answers = together(*[lambda: store.apply(command)] * 8)
    assert {each.number for each in answers if isinstance(each, Change)} == {5}
    assert len(answers) == 8
    assert shop.numbers("shop/staging") == [3, 2, 1]


def test_prune_beside_changes_to_what_it_deletes(shop: Scene, store: Store):
    """It names no environment: those that it touches are locked once they are known."""
    for number in range(4):
        shop.clone("staging", f"e{number}", services=("shop",), ttl=1)
    shop.clock.now = shop.clock.now.replace(year=2027)
    scene_clock = shop.clock
    store._clock = scene_clock
    answers = together(
        lambda: shop.do(commands.Prune),
        *(lambda number=number: store.apply(variable(shop, f"e{number}", "A")) for number in range(4)),  # type: ignore[misc]
    )
    assert isinstance(answers[0], Change), answers[0]
    assert all(isinstance(each, Change | NotFound | Refused) for each in answers)
    assert {each.name for each in store.environments("acme")} == {"staging", PRODUCTION}
    assert store.verify().problems == ()


def test_t8_many_clients_upload_the_same_blob(store: Store, database: str):
    made = Bundle({"worker.py": "w", "large.bin": "x" * 3_000_000})
    with ThreadPoolExecutor(16) as pool:
        stored_by = list(pool.map(lambda _: store.upload(made), range(16)))
    assert sum(each.blobs for each in stored_by) >= 3
    kept = [len(content) for name, content in stored(database).items() if name.startswith("chunks/")]
    assert 3_000_000 < sum(kept) < 3_100_000
    assert store.verify().problems == ()


def test_gc_beside_deploys_takes_nothing_that_a_version_needs(shop: Scene, database: str):
    ended = threading.Event()

    def sweep() -> None:
        with closing(opened(database)) as own:
            while not ended.is_set():
                own.gc(dry_run=False, grace=0)

    with ThreadPoolExecutor(1) as pool, closing(opened(database)) as store:
        sweeping = pool.submit(sweep)
        for number in range(30):
            for _ in range(100):
                try:
                    shop.deploy(shop=f"text {number}")
                except Refused:  # gc was between the upload and the deploy, and was told to spare nothing
                    continue
                break
            else:
                pytest.fail("gc took every upload")
        ended.set()
        sweeping.result()
        assert [shop.text(f"shop/staging@{number}") for number in range(3, 33)] == [f"text {n}" for n in range(30)]
        found = store.verify()
        assert (found.problems, found.leftovers) == ((), ())


# ---- a server that dies


def die_beside_writers(server: Server, database: str, *, writers: int, changes: int, deaths: int) -> None:
    """PostgreSQL is killed (-9) and started again while all write, each to an environment of its own and to one that
    all share."""
    acknowledged: list[Change] = []
    failed = threading.Event()

    def write(writer: int) -> None:
        for turn in range(changes):
            environment = "shared" if turn % 4 == 0 else f"env{writer}"
            ask = {"id": commands.new_id(), "project": scene.project, "environment": environment}
            command = commands.Configure(**ask, services=("shop",), vars={f"W{writer}_{turn}": "set"})
            while True:
                try:
                    acknowledged.append(stores[writer].apply(command))
                except Unreachable:
                    assert not failed.is_set()
                else:
                    break

    with closing(opened(database)) as store:
        scene = Scene(store, Clock(), People())
        scene.deploy(shop="a1", auth="b1")
        for name in ("shared", *(f"env{writer}" for writer in range(writers))):
            scene.create(name, services=("shop",))
        before = scene.newest_change()
    with ExitStack() as stack, ThreadPoolExecutor(writers) as pool:
        stores = [stack.enter_context(closing(opened(database))) for _ in range(writers)]
        running = [pool.submit(write, writer) for writer in range(writers)]
        try:
            for death in range(deaths):
                while len(acknowledged) < (death + 1) * writers * changes // (deaths + 1):
                    for each in running:
                        if each.done():
                            each.result()
                    failed.wait(0.002)
                server.kill()
                server.start()
        except BaseException:
            failed.set()
            raise
        for each in running:
            each.result()
    total = writers * changes
    with closing(opened(database)) as store:
        scene = Scene(store, Clock(), People())
        assert len({change.id for change in acknowledged}) == total
        assert sorted(change.number or 0 for change in acknowledged) == list(range(before + 1, before + 1 + total))
        for change in acknowledged:
            found = store.change(change.id or "")
            assert found is not None
            assert (found.number, found.summary) == (change.number, change.summary)
        names = {name for head in store.heads("acme", ("shop",)) for name in store.settings(head.settings.digest).vars}
        assert {f"W{writer}_{turn}" for writer in range(writers) for turn in range(changes)} <= names
        assert store.verify().problems == ()


@pytest.mark.xdist_group("both cores")
def test_a_server_killed_beside_writers_loses_nothing_and_doubles_nothing(server: Server, database: str):
    die_beside_writers(server, database, writers=6, changes=12, deaths=3)


@pytest.mark.soak
def test_a_server_killed_again_and_again_beside_twenty_writers(server: Server, database: str):
    die_beside_writers(server, database, writers=20, changes=50, deaths=20)


def test_connections_that_ended_while_idle_are_replaced_unnoticed(server: Server, shop: Scene, store: Store):
    server.kill()
    server.start()
    assert store.environment("shop", "staging").head == 2
    server.kill()
    server.start()
    assert shop.vars("staging", shop={"A": "1"}).number == 5


def test_a_server_that_is_gone_is_unreachable(server: Server, store: Store, database: str):
    server.kill()
    try:
        with pytest.raises(Unreachable) as caught:
            store.projects()
        assert caught.value.message == f"{masked(database)} can't be reached: connection refused"
        with pytest.raises(Unreachable, match=r"postgresql://127\.0\.0\.1:\d+/store\d+ can't be reached"):
            opened(database)
    finally:
        server.start()
    assert store.projects() == ()


# ---- who may do what to the tables


@pytest.fixture
def restricted(server: Server, database: str) -> Iterator[str]:
    """The URL of a role that was granted what the application needs."""
    name = database.rpartition("/")[2]
    server.execute("CREATE ROLE application LOGIN")
    for statement in grants("application"):
        server.execute(statement, name)
    yield server.url(name, "application")
    server.execute("DROP OWNED BY application", name)
    server.execute("DROP ROLE application")


def test_all_commands_run_under_a_role_that_can_only_add_to_history(restricted: str):
    with closing(opened(restricted)) as store:
        scene = Scene(store, Clock(), People())
        scene.deploy(auth="b1", shop="a1")
        scene.promote("staging", "production")
        scene.deploy(shop="a2")
        scene.promote("staging", "production")
        live_long(scene)
        scene.secret("shop/staging", "KEY", "x")
        scene.do(
            commands.Configure,
            environment="staging",
            services=("shop",),
            unset_secrets=("KEY",),
            purge=True,
            force=True,
        )
        scene.do(commands.Prune)
        store.keyvalues.put("a.0.carts", "k", b"v", None, None)
        store.keyvalues.copy("a.0.carts", "b.0.carts")
        store.keyvalues.delete("a.0.carts", "k")
        store.upload(bundle("nobody's"))
        store.gc(dry_run=False, grace=0)
        assert store.verify().problems == ()


def test_the_grants_that_operators_are_told_are_these():
    told = (Path(__file__).parent.parent / "docs/operations.md").read_text()
    assert "\n".join(f"    {statement};" for statement in grants("svcctl")) in told


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE changes SET actor = 'Eve'",
        "DELETE FROM changes",
        "UPDATE records SET change = 1",
        "DELETE FROM records",
        "TRUNCATE records",
        "UPDATE settings SET body = ''",
        "DELETE FROM settings",
        "DROP TABLE changes",
        "ALTER TABLE changes ADD COLUMN x integer",
        "DELETE FROM environments",
        "UPDATE schema_versions SET version = 99",
    ],
)
def test_that_role_can_rewrite_nothing(restricted: str, sql: str):
    with psycopg.connect(restricted) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(sql)


def test_that_role_brings_no_schema_up_and_says_who_can(restricted: str, server: Server):
    name = restricted.rpartition("/")[2]
    server.execute("UPDATE schema_versions SET version = 1 WHERE part = 'ledger'", name)
    try:
        with pytest.raises(Refused, match=r"this store is of schema 1, this svcctl needs \d and may not") as caught:
            opened(restricted)
        assert "the role that owns its tables can" in (caught.value.hint or "")
    finally:
        server.execute(f"UPDATE schema_versions SET version = {len(MIGRATIONS)} WHERE part = 'ledger'", name)


def test_a_role_without_rights_is_told_so(server: Server, database: str):
    name = database.rpartition("/")[2]
    server.execute("CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(Refused, match="permission denied for table") as caught:
            opened(server.url(name, "stranger"))
        assert "127.0.0.1" not in caught.value.message, "an API would tell its clients"
        assert "granted" in (caught.value.hint or "")
    finally:
        server.execute("DROP ROLE stranger")


# ---- opening


def test_t12_eight_who_open_an_empty_database_make_one_store(server: Server):
    url = server.empty_database()

    def deploy(number: int) -> Change:
        with closing(opened(url)) as store:
            scene = Scene(store, Clock(), People())
            scene.deploy(shop="a1", auth="b1")
            return scene.vars("staging", shop={f"N{number}": "1"})

    made = together(*(lambda number=number: deploy(number) for number in range(8)))  # type: ignore[misc]
    assert [each for each in made if not isinstance(each, Change)] == []
    assert numbers_of_changes(url) == list(range(1, 10))
    with closing(opened(url)) as store:
        assert store.verify().problems == ()
    server.drop(url)


def test_t12_a_store_from_the_future_is_refused(server: Server, database: str):
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE schema_versions SET version = version + 90 WHERE part = 'ledger'")
    try:
        with pytest.raises(Refused, match=r"this store is of schema 9\d; this svcctl knows"):
            opened(database)
    finally:
        server.execute(
            "UPDATE schema_versions SET version = version - 90 WHERE part = 'ledger'", database.rpartition("/")[2]
        )


def test_reading_makes_no_store(server: Server):
    url = server.empty_database()
    with pytest.raises(NotFound, match="nothing has been deployed here yet"):
        Store.open(url, create=False)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    server.drop(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:c4nary@127.0.0.1:1/acme",
        "postgresql://127.0.0.1:1/acme?password=c4nary&user=ada",
        "postgresql://ada:c4nary@nowhere.invalid/acme?connect_timeout=1",
        "postgresql://ada:c4nary@127.0.0.1:port/acme",
        "postgresql://ada:c4/nary@127.0.0.1:1/acme",
        "postgresql://ada:c4nary@127.0.0.1:1/acme?no_such_option=c4nary",
    ],
)
def test_t14_a_password_is_in_no_message(url: str):
    with pytest.raises((Unreachable, UsageError)) as caught:
        opened(url)
    said = " ".join(map(str, (caught.value.message, caught.value.hint, caught.value.next)))
    assert "nary" not in said
    assert "nary" not in masked(url)


def test_secrets_need_their_key_in_the_environment(store: Store, database: str):
    with closing(Store.open(database, actor=People(), clock=Clock())) as keyless:
        scene = Scene(keyless, Clock(), People())
        scene.deploy(shop="a1", auth="b1")
        with pytest.raises(Refused, match="SVCCTL_SECRET_KEY is not set"):
            keyless.seal("shop", "staging", "KEY", b"x")
    with_key = Scene(store, Clock(), People())
    with_key.secret("shop/staging", "KEY", "x")
    with closing(Store.open(database, actor=People(), clock=Clock())) as keyless:
        assert keyless.environment("shop", "staging").head == 2
        with pytest.raises(Refused, match="SVCCTL_SECRET_KEY is not set"):
            keyless.reveal(keyless.environment("shop", "staging").id, with_key.settings("shop/staging").secrets)


# ---- damage


def alter(url: str, sql: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(sql)  # type: ignore[call-overload]


DAMAGES = {
    "flipped": "UPDATE chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1) WHERE {}",
    "cut": "UPDATE chunks SET data = substr(data, 1, 1) WHERE {}",
    "deleted": "DELETE FROM chunks WHERE {}",
    "of another": "UPDATE chunks SET data = (SELECT data FROM chunks WHERE NOT {} LIMIT 1) WHERE {}",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_t1_damaged_rows_are_named_and_never_handed_on(shop: Scene, store: Store, database: str, damage: str):
    pack = f"pack = (SELECT pack FROM blobs WHERE digest = '{digest.of_blob(b'a1')}')"
    alter(database, damage.format(*[pack] * damage.count("{}")))
    problems = [problem for problem in store.verify().problems if "shop/" in problem]
    assert problems
    assert all(problem.endswith("used by shop/production@1, shop/staging@1") for problem in problems)
    for attempt in (shop.rollback, lambda: shop.clone("shop/staging@1", "preview", services=("shop",))):
        with pytest.raises(Damage, match=r"blob|manifest"):
            attempt()
    assert shop.text("shop/production") == "a2"
    assert shop.deploy(shop="a3").changed
    shop.deploy(shop="a1")
    assert store.verify().problems == ()
    shop.rollback()
    assert shop.text("shop/production") == "a1"
    store.gc(dry_run=False, grace=0)
    assert (store.verify().problems, store.verify().leftovers) == ((), ())


def test_rows_that_were_written_anew_are_trusted_once_they_are_found_whole(shop: Scene, store: Store, database: str):
    """As after a dump that was restored."""
    code = shop.version("shop/staging@1").code
    assert code
    assert store.blobs.suspects([code.digest]) == []
    alter(database, "UPDATE chunks SET data = data")
    assert store.blobs.suspects([code.digest]) == [code.digest]
    assert shop.rollback().changed
    assert store.blobs.suspects([code.digest]) == []


@pytest.mark.usefixtures("shop")
def test_an_upload_that_died_is_a_leftover_an_hour_later(store: Store, database: str):
    pack = Chunks(store.database).new()
    pack.write(bytes(1 << 21))
    assert store.verify().leftovers == ()
    assert store.gc(dry_run=False, grace=0).leftovers == ()
    alter(database, "UPDATE chunks SET stored = stored - 3601000000000")
    assert store.verify().leftovers == (pack.name,)
    assert store.gc(dry_run=False, grace=0).leftovers == (pack.name,)
    assert store.verify().leftovers == ()
    assert store.verify().problems == ()


def test_a_large_blob_comes_back_as_it_went_also_while_gc_moves_it(shop: Scene, store: Store):
    large = "".join(chr(32 + number % 90) for number in range(2_500_000))
    made = Bundle({"worker.py": large, "beside.txt": "y" * 3_000_000})
    small = Bundle({"worker.py": large})
    store.upload(made)
    store.upload(small)
    requires = shop.project.services["shop"].requires
    code = {"shop": shop.code("shop", "a1").__class__(digest=small.digest, requires=requires)}
    shop.do(commands.Deploy, environment="staging", services=("shop",), code=code)
    stream = store.open_blob(digest.of_blob(large.encode()))
    first = stream.read(1_000_000)
    assert store.gc(dry_run=False, grace=0).artifacts == 1
    assert first + stream.read() == large.encode()
    stream.close()
    assert store.verify().problems == ()


# ---- tampering


@pytest.fixture(scope="module")
def long_ago(server: Server) -> Iterator[str]:
    """A store with everything that leaves rows behind, made once."""
    url = server.database()
    with closing(opened(url)) as store:
        scene = Scene(store, Clock(), People())
        scene.deploy(auth="b1", shop="a1")
        scene.promote("staging", "production")
        scene.deploy(shop="a2")
        scene.promote("staging", "production")
        live_long(scene)
    yield url
    server.drop(url)


def in_postgres(script: str) -> str:
    return (
        script.replace("CAST(replace(CAST(body AS TEXT)", "convert_to(replace(convert_from(body, 'UTF8')")
        .replace("CAST(replace(CAST(identity AS TEXT)", "convert_to(replace(convert_from(identity, 'UTF8')")
        .replace(" AS BLOB)", ", 'UTF8')")
    )


@pytest.mark.parametrize(("script", "first"), TAMPERED.items(), ids=[script[:60] for script in TAMPERED])
def test_t16_verify_names_the_first_row_that_was_tampered_with(server: Server, long_ago: str, script: str, first: str):
    url = server.database(like=long_ago)
    alter(url, in_postgres(script))
    with closing(opened(url)) as store:
        problems = store.verify().problems
    server.drop(url)
    assert problems
    assert first in problems[0], problems

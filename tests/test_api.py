"""The API over real HTTP: who is let in, what is refused before it is read, what each route answers."""

import asyncio
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import httpx
import msgspec
import pytest
from apis import BODY, Team, error_of, team
from scene import Bundle, bundle

from svcctl import ages, commands, digest, tokens, wire
from svcctl.api import ROUTES, uploading
from svcctl.api.callers import FAILURES
from svcctl.api.route import Route
from svcctl.api.uploading import UNKNOWN
from svcctl.api.watching import Watch
from svcctl.backend.altered import Altered, altered, whole
from svcctl.backend.base import Changes, Followed, History
from svcctl.backend.messages import FRAMES, MANIFEST, ToSeal, frame_head
from svcctl.backend.store import Store
from svcctl.model import Change, Code, Environment, Grant, Requires
from svcctl.sealing import VALUE_SIZE

PATIENCE = 20
WANTED = {
    "service": "shop", "name": "staging", "id": "0" * 20, "digest": "0" * 64, "namespace": "0.0.x",
}  # fmt: skip
QUERIES = {
    "/v1/environments": "project=acme",
    "/v1/heads": "project=acme",
    "/v1/version": "ref=shop/staging",
    "/v1/history": "project=acme",
    "/v1/changes": "after=0&timeout=0",
    "/v1/running": "commit=abc",
    "/v1/kv/{namespace}/entry": "key=k",
}


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Team]:
    with team(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """For tests that it refuses everything."""
    with team(tmp_path_factory.mktemp("standing")) as found:
        yield found


@pytest.fixture(scope="module")
def ci(standing: Team) -> httpx.Client:
    return standing.holder("ci", "deployer")


@pytest.fixture
def released(acme: Team) -> Team:
    acme.scene.deploy(shop="a1", auth="b1")
    acme.scene.promote("staging", "production")
    return acme


def url_of(route: Route) -> str:
    path = re.sub(r"\{(\w+)\}", lambda found: WANTED[found[1]], route.path)
    query = QUERIES.get(route.path)
    return f"{path}?{query}" if query else path


def ask(client: httpx.Client, route: Route) -> httpx.Response:
    content = b"[]" if route.limit else None
    return client.request(route.method, url_of(route), content=content, headers=BODY if content else {})


# ---- who is let in


def test_no_route_but_health_answers_without_a_token(acme: Team) -> None:
    """Made of the routes that the application is made of; one with a wrong or an old token is asked below."""
    nobody = acme.anyone()
    assert {ask(nobody, route).status_code for route in ROUTES} == {401}
    for method, each in product(("GET", "HEAD"), ("live", "ready")):
        assert nobody.request(method, f"/health/{each}").status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["Basic c3ZjOg==", "Bearer", "svc_x", "Bearer svc_" + "0" * 49, "Bearer " + "x" * 5000, "Bearer é"],
)
def test_what_is_no_token_is_no_way_in(acme: Team, authorization: str) -> None:
    answer = acme.anyone().get("/v1/projects", headers={"authorization": authorization.encode()})
    assert error_of(answer) == (401, "forbidden")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_each_token_that_is_over_is_told_why_and_kept(acme: Team) -> None:
    soon = ages.timestamp(datetime.now(UTC) + timedelta(milliseconds=200))
    expired = acme.holder("short", "admin", expires=soon)
    revoked = acme.holder("gone", "admin")
    acme.store.apply(commands.RevokeToken(id=commands.new_id(), token="gone"))
    threading.Event().wait(0.25)
    unknown = acme.anyone(tokens.new().reveal().decode())
    said = [client.get("/v1/projects").json()["error"]["message"] for client in (expired, revoked, unknown)]
    assert [text.partition(" at ")[0] for text in said] == [
        "token 'short' expired", "token 'gone' was revoked", "this token is not known here",
    ]  # fmt: skip
    kept = acme.store.refusals(limit=9).refusals
    assert [(each.actor, each.what) for each in kept] == [
        ("unknown", "GET /v1/projects"), ("gone", "GET /v1/projects"), ("short", "GET /v1/projects"),
    ]  # fmt: skip


def test_no_route_opens_to_a_token_that_is_over(acme: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcctl.api.callers.FAILURES", 1000)
    revoked = acme.holder("gone", "admin")
    acme.store.apply(commands.RevokeToken(id=commands.new_id(), token="gone"))
    soon = ages.timestamp(datetime.now(UTC) + timedelta(milliseconds=50))
    expired = acme.holder("short", "admin", expires=soon)
    threading.Event().wait(0.1)
    unknown = acme.anyone(tokens.new().reveal().decode())
    answers = [error_of(ask(client, route)) for client in (revoked, expired, unknown) for route in ROUTES]
    assert answers == [(401, "forbidden")] * 3 * len(ROUTES)


def test_guessing_is_limited_and_whoever_was_right_goes_on(acme: Team) -> None:
    right = acme.holder("ada", "viewer")
    assert right.get("/v1/projects").status_code == 200
    late = acme.secret("late", "viewer")
    guesses = [acme.anyone(tokens.new().reveal().decode()).get("/v1/projects") for _ in range(FAILURES + 3)]
    assert [guess.status_code for guess in guesses] == [401] * FAILURES + [429] * 3
    assert guesses[-1].headers["retry-after"] == "6"
    assert error_of(acme.anyone(late).get("/v1/projects")) == (429, "unreachable")
    assert right.get("/v1/projects").status_code == 200
    assert len(acme.store.refusals(limit=100).refusals) == FAILURES


ALLOWED = {
    "viewer": {"whoami", "openapi"},
    "runtime": {"whoami", "openapi", "changes", "follow", "reveal", "manifest", "blob", "several"}
    | {"kv_get", "kv_put", "kv_delete", "kv_list", "kv_copy"},
}
_MOVES = {"standing", "segment", "append", "valueless", "seal_all", "take_secrets", "kv_namespaces"}
_GOVERNING = {"tokens", "refusals"} | _MOVES
_READS = {route.operation for route in ROUTES if route.method == "GET"} - _GOVERNING - {"kv_get", "kv_list"}
_READS.add("several")
_WRITES = {"apply", "plan", "seal", "missing", "blobs", "joined", "artifact", "artifact_altered"} | {
    "kv_get",
    "kv_put",
    "kv_delete",
    "kv_list",
    "kv_copy",
}
ALLOWED["viewer"] |= _READS
ALLOWED["deployer"] = ALLOWED["promoter"] = _READS | _WRITES
ALLOWED["admin"] = _READS | _WRITES | _GOVERNING


@pytest.mark.parametrize("role", ALLOWED)
def test_each_role_opens_its_routes_and_no_other(role: str, released: Team) -> None:
    """What a route then says of an empty body is not the matter here."""
    holder = released.holder("x", role)  # type: ignore[arg-type]
    opened = {route.operation for route in ROUTES if not _is_refused(holder, route, released)}
    assert opened == ALLOWED[role]


def _is_refused(client: httpx.Client, route: Route, acme: Team) -> bool:
    bodies: dict[str, bytes] = {
        "apply": wire.canonical(acme.scene.ask(commands.TagVersion, reference="shop/staging", name="v1")),
        "plan": wire.canonical(acme.scene.ask(commands.TagVersion, reference="shop/staging", name="v1")),
        "seal": b'{"service":"shop","environment":"staging","name":"A","value":"eA=="}',
        "reveal": b'{"environment":"00","secrets":{}}',
        "kv_copy": b'{"source":"0.0.x"}',
    }
    content = bodies.get(route.operation, b"[]" if route.kind == "plain" else b"") if route.limit else None
    answer = client.request(route.method, url_of(route), content=content, headers=BODY if route.limit else {})
    assert answer.status_code != 401
    return answer.status_code == 403


# ---- what a scope reaches


def test_a_token_changes_nothing_beyond_its_scope(released: Team) -> None:
    ci = released.holder("ci", "deployer", services=("shop*",), environments=("staging", "preview-*"))
    in_scope = released.send(ci, commands.Configure, environment="staging", services=("shop",), vars={"A": "1"})
    assert in_scope.status_code == 200
    change = msgspec.json.decode(in_scope.content, type=Change)
    assert (change.actor, [version.ref for version in change.versions]) == ("ci", ["shop/staging@2"])
    before = released.scene.newest_change()
    beyond = [
        released.send(ci, commands.Configure, environment="production", services=("shop",), vars={"A": "1"}),
        released.send(ci, commands.Configure, environment="staging", services=("auth",), vars={"A": "1"}),
        released.send(ci, commands.Configure, environment="staging", vars={"A": "2"}),
        released.send(ci, commands.Clone, source="production", target="preview-x", services=("shop",)),
        released.send(ci, commands.Rename, old="staging", new="elsewhere", services=("shop",)),
        released.send(ci, commands.Promote, source="staging", target="production"),
        released.send(ci, commands.Protect, environment="staging", on=True),
    ]
    assert [error_of(each) for each in beyond] == [(403, "forbidden")] * len(beyond)
    assert released.scene.newest_change() == before
    assert "auth/staging is out of reach of token 'ci'" in beyond[1].json()["error"]["message"]
    kept = released.store.refusals(limit=50).refusals
    kinds = ["configure", "configure", "configure", "clone", "rename", "promote", "protect"]
    assert [(each.actor, each.what) for each in kept] == [("ci", kind) for kind in reversed(kinds)]


def test_what_was_refused_is_kept_as_what_it_would_have_been(released: Team) -> None:
    ada, promote = released.holder("ada", "viewer"), released.scene.ask(commands.Promote, source="a", target="b")
    ada.post("/v1/plan", content=wire.canonical(promote), headers=BODY)
    ada.post("/v1/plan", content=b'{"kind":"<script>","id":7}', headers=BODY)
    ada.post("/v1/changes", content=b"[" * 1000, headers=BODY)
    ada.get("/v1/tokens")
    kept = released.store.refusals(limit=50).refusals
    assert [each.what for each in kept] == ["GET /v1/tokens", "POST /v1/changes", "POST /v1/plan", "promote"]


def test_a_new_service_is_made_once_by_who_reaches_its_production(tmp_path: Path) -> None:
    with team(tmp_path) as acme:
        ci, ada = acme.holder("ci", "deployer", environments=("staging",)), acme.holder("ada", "admin")
        code = {name: acme.scene.code(name, "a1") for name in ("shop", "auth")}

        def deploy() -> httpx.Response:
            return acme.send(ci, commands.Deploy, environment="staging", code=code)

        refused = deploy()
        assert error_of(refused) == (403, "forbidden")
        assert "`svcctl env create production --exist-ok`, this works" in refused.json()["error"]["hint"]
        created = acme.send(ada, commands.CreateEnvironment, environment="production", exist_ok=True)
        assert created.status_code == 200
        assert deploy().status_code == 200
        elsewhere = acme.send(ci, commands.Configure, environment="production", vars={"A": "1"})
        assert error_of(elsewhere) == (403, "forbidden")
        assert elsewhere.json()["error"]["hint"] is None


def test_a_clone_of_what_is_in_scope_is(released: Team) -> None:
    ci = released.holder("ci", "deployer", environments=("staging", "preview-*"))
    assert released.send(ci, commands.Clone, source="staging", target="preview-x").status_code == 200


def test_reads_show_what_is_in_scope(released: Team) -> None:
    eve = released.holder("eve", "viewer", services=("shop",), environments=("staging",))
    found = msgspec.json.decode(eve.get("/v1/environments?project=acme").content, type=tuple[Environment, ...])
    assert [each.ref for each in found] == ["shop/staging"]
    page = msgspec.json.decode(eve.get("/v1/history?project=acme").content, type=History)
    assert {version.ref for version in page.versions} == {"shop/staging@1"}
    assert {event.ref for event in page.events} == {"shop/staging"}
    page = msgspec.json.decode(eve.get("/v1/changes?project=acme").content, type=Changes)
    assert [(change.kind, change.touched) for change in page.changes] == [("deploy", ("shop/staging",))]
    assert [text.partition(":")[0] for text in page.changes[0].summary] == ["shop", "shop/staging", "shop/staging@1"]
    followed = msgspec.json.decode(eve.get("/v1/follow?after=0").content, type=Followed)
    assert [place.ref for place in followed.places if not place.identity.deleted] == ["shop/staging"]
    assert error_of(eve.get("/v1/environments/shop/production")) == (403, "forbidden")
    assert error_of(eve.get("/v1/version?ref=auth/staging")) == (403, "forbidden")


def test_nobody_reads_a_secret_but_what_runs_it(released: Team) -> None:
    released.scene.secret("shop/production", "KEY", "hunter2")
    settings = released.scene.settings("shop/production")
    environment = released.store.environment("shop", "production")
    body = json.dumps({"environment": environment.id, "secrets": settings.secrets}).encode()
    answers = {
        role: released.holder(role, role).post("/v1/reveal", content=body)  # type: ignore[arg-type]
        for role in ("viewer", "deployer", "promoter", "admin", "runtime")
    }
    elsewhere = released.holder("node-2", "runtime", environments=("staging",)).post("/v1/reveal", content=body)
    assert {role: answer.status_code for role, answer in answers.items()} == {
        "viewer": 403, "deployer": 403, "promoter": 403, "admin": 403, "runtime": 200,
    }  # fmt: skip
    assert answers["runtime"].json() == {"KEY": "aHVudGVyMg=="}
    assert error_of(elsewhere) == (404, "not_found")


def test_an_id_out_of_scope_is_like_one_that_there_is_not(released: Team) -> None:
    """A follower is shown the ids of what is masked."""
    node = released.holder("node", "runtime", environments=("staging",))
    known = released.store.environment("shop", "production").id

    def said(id: str) -> list[str]:
        answers = [
            node.post("/v1/reveal", content=json.dumps({"environment": id, "secrets": {}}).encode()),
            node.get(f"/v1/kv/{id}.0.x/entry?key=k"),
            node.get(f"/v1/kv/{id}.0.x/keys"),
            node.put(f"/v1/kv/{id}.0.x/entries", json=[]),
        ]
        assert {answer.status_code for answer in answers} == {404}
        return [answer.text.replace(id, "ID") for answer in answers]

    assert said(known) == said("0" * 20)
    kept = released.store.refusals(limit=9).refusals
    assert ["shop/production is out of reach" in each.why for each in kept] == [True] * 4


def test_a_narrow_admin_makes_no_tokens_and_sees_none(released: Team) -> None:
    narrow = released.holder("narrow", "admin", environments=("staging",))
    assert error_of(narrow.get("/v1/tokens")) == error_of(narrow.get("/v1/refusals")) == (403, "forbidden")
    wide = commands.CreateToken(
        id=commands.new_id(), grant=Grant(name="more", role="admin"), hash=tokens.hash_of(tokens.new())
    )
    answer = narrow.post("/v1/changes", content=wire.canonical(wide))
    assert error_of(answer) == (403, "forbidden")


def test_protected_environments_are_not_renamed_or_deleted_by_who_may_not_deploy_there(released: Team) -> None:
    released.scene.create("live")
    released.scene.protect("live")
    ci = released.holder("ci", "deployer")
    answers = [
        released.send(ci, commands.Rename, old="live", new="x"),
        released.send(ci, commands.DeleteEnvironment, environment="live"),
        released.send(ci, commands.Protect, environment="live", on=False),
    ]
    assert [error_of(each) for each in answers] == [(403, "forbidden")] * 3
    assert "takes admin" in answers[0].json()["error"]["message"]


def test_who_did_it_is_the_tokens_owner_whatever_the_client_says(released: Team) -> None:
    ada = released.holder("Ada <ada@example.com>", "admin")
    answer = released.send(
        ada, commands.Configure, environment="staging", vars={"A": "1"}, meta={"actor": "Mallory"}, message="by Mallory"
    )
    assert answer.json()["actor"] == "Ada <ada@example.com>"


# ---- changes


def test_t11_the_same_command_twice_is_one_change(released: Team) -> None:
    ci = released.holder("ci", "deployer")
    command = released.scene.ask(commands.Configure, environment="staging", vars={"A": "1"})
    first, second = (ci.post("/v1/changes", content=wire.canonical(command)) for _ in range(2))
    assert first.content == second.content
    found = ci.get(f"/v1/changes/{command.id}")
    assert msgspec.json.decode(found.content, type=Change) == msgspec.json.decode(first.content, type=Change)
    assert ci.get("/v1/changes/nothing").json() is None


def test_an_id_of_somebody_elses_change_tells_nothing(released: Team) -> None:
    ada = released.scene.ask(commands.Configure, environment="production", vars={"A": "1"})
    released.store.apply(ada)
    ci = released.holder("ci", "deployer", environments=("staging",))
    mine = msgspec.structs.replace(ada, environment="staging")
    assert error_of(ci.post("/v1/changes", content=wire.canonical(mine))) == (403, "forbidden")


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"environment": "nowhere", "vars": {"A": "1"}}, (404, "not_found")),
        ({"environment": "staging", "vars": {"not a name": "1"}}, (422, "refused")),
        ({"environment": "staging", "vars": {"A": "1"}, "expect": {"shop/staging": 7}}, (409, "conflict")),
    ],
)
def test_refusals_have_the_status_of_the_one_table(released: Team, fields: dict, answer: tuple) -> None:
    ci = released.holder("ci", "deployer")
    assert error_of(released.send(ci, commands.Configure, **fields)) == answer


def test_the_long_poll_answers_with_the_next_change(released: Team) -> None:
    node = released.holder("node", "runtime")
    newest = node.get("/v1/changes?after=0").json()["number"]
    assert node.get(f"/v1/changes?after={newest}&timeout=0").json() == {"number": newest}
    with ThreadPoolExecutor(20) as threads:
        waiting = [
            threads.submit(released.anyone(node.headers["authorization"][7:]).get, f"/v1/changes?after={newest}")
            for _ in range(20)
        ]
        released.scene.vars("staging", shop={"A": "1"})
        assert {each.result().json()["number"] for each in waiting} == {newest + 1}


def test_who_waits_is_told_of_what_another_request_saw_first(released: Team) -> None:
    async def waited() -> int:
        watch = Watch(lambda: Store.open(released.folder))
        newest = released.store.wait(0, 0)
        first = asyncio.create_task(watch.after(newest, newest, PATIENCE))
        await asyncio.sleep(0)
        released.scene.vars("staging", shop={"A": "1"})  # the loop stands still until the second one has come
        assert await watch.after(newest, newest + 1, 0) == newest + 1
        async with asyncio.timeout(PATIENCE / 2):
            found = await first
        watch.stop()
        await asyncio.to_thread(watch.close)
        return found - newest

    assert asyncio.run(waited()) == 1


# ---- reads


def test_what_did_not_change_is_not_sent_again(released: Team) -> None:
    ada = released.holder("ada", "viewer")
    first = ada.get("/v1/heads?project=acme")
    again = ada.get("/v1/heads?project=acme", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    released.scene.vars("staging", shop={"A": "1"})
    assert ada.get("/v1/heads?project=acme", headers={"if-none-match": first.headers["etag"]}).status_code == 200


def test_blobs_are_read_whole_and_in_ranges(released: Team) -> None:
    node = released.holder("node", "runtime")
    code = released.scene.version("shop/staging").code
    assert code is not None
    manifest = node.get(f"/v1/manifests/{code.digest}")
    assert digest.of("artifact", manifest.content) == code.digest
    assert "immutable" in manifest.headers["cache-control"]
    blob = manifest.json()["files"][0]["blob"]
    url = f"/v1/blobs/{blob}"
    whole = node.get(url)
    assert hashlib.sha256(whole.content).hexdigest() == blob
    assert (whole.content, whole.headers["accept-ranges"]) == (b"a1", "bytes")
    parts = {each: node.get(url, headers={"range": each}) for each in ("bytes=1-", "bytes=0-0", "bytes=-1", "bytes=9-")}
    assert [(part.status_code, part.content) for part in parts.values()] == [
        (206, b"1"), (206, b"a"), (206, b"1"), (416, b""),
    ]  # fmt: skip
    assert parts["bytes=1-"].headers["content-range"] == "bytes 1-1/2"
    odd = node.get(url, headers={"range": "bytes=0-0,1-1"})
    assert (odd.status_code, odd.content) == (200, b"a1")
    assert node.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def test_a_large_blob_is_streamed(released: Team) -> None:
    text = "x" * 3_000_000
    made = bundle(text)
    released.store.upload(made)
    node = released.holder("node", "runtime")
    blob = made.manifest.files[0].blob
    assert node.get(f"/v1/blobs/{blob}").text == text
    assert node.get(f"/v1/blobs/{blob}", headers={"range": "bytes=2999990-"}).text == "x" * 10
    for _ in range(20):  # more than there are backends: each must have been given back
        with node.stream("GET", f"/v1/blobs/{blob}") as cut:
            next(cut.iter_raw())
    assert node.get("/v1/projects").status_code == 403


# ---- uploads


def frame(content: bytes, blob: str | None = None, size: int | None = None) -> bytes:
    name = digest.Digest(blob or digest.of_blob(content))
    return frame_head(name, len(content) if size is None else size) + content


def send_blobs(client: httpx.Client, body: bytes) -> httpx.Response:
    return client.post("/v1/blobs", content=body, headers={"content-type": FRAMES})


def put(client: httpx.Client, made: Bundle) -> httpx.Response:
    return client.put(f"/v1/artifacts/{made.digest}", content=made.content, headers={"content-type": MANIFEST})


def files_in(acme: Team) -> set[str]:
    packs = acme.folder / "packs"
    return {path.name for path in packs.iterdir()} if packs.exists() else set()


def test_an_artifact_is_uploaded_and_deployed(released: Team) -> None:
    ci = released.holder("ci", "deployer")
    made = Bundle({"worker.py": "new", "more.py": "more"})
    lacking = put(ci, made)
    blobs = {file.blob: file.path for file in made.manifest.files}
    assert (lacking.status_code, set(lacking.json()["missing"])) == (409, set(blobs))
    assert ci.post("/v1/blobs/missing", json=sorted(blobs)).json() == sorted(blobs)
    body = b"".join(frame(made.open(digest.Digest(blob)).read()) for blob in blobs)
    assert send_blobs(ci, body).json() == {"blobs": 2, "bytes": 7}
    assert put(ci, made).json() == {}
    assert put(ci, made).json() == {}
    code = {"shop": Code(digest=made.digest, requires=Requires())}
    deployed = released.send(ci, commands.Deploy, environment="staging", services=("shop",), code=code)
    assert deployed.json()["versions"][0]["code"]["digest"] == made.digest
    assert released.store.verify().problems == ()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (frame(b"good") + frame(b"lie", blob="0" * 64), 422),
        (frame(b"good") + frame(b"short", size=9), 400),
        (frame(b"good") + frame(b"long", size=2), 422),
        (frame(b"good") + b"half a head", 400),
        (frame(b"good") + frame_head(digest.of_blob(b"x"), 1 << 62), 400),
        (frame(b"good") + frame_head(digest.of_blob(b"x"), 1), 400),
    ],
)
def test_t6_an_upload_that_lies_or_is_cut_is_refused_and_leaves_nothing(body: bytes, status: int, acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    assert send_blobs(ci, body).status_code == status
    good = digest.of_blob(b"good")
    assert ci.post("/v1/blobs/missing", json=[good]).json() == [good]
    assert files_in(acme) == set()
    assert send_blobs(ci, frame(b"good")).json() == {"blobs": 1, "bytes": 4}


def test_a_large_blob_is_made_of_parts(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    whole = digest.of_blob(b"one two one ")
    parts = [digest.of_blob(part) for part in (b"one ", b"two ", b"one ")]
    lacking = ci.put(f"/v1/blobs/{whole}", json=parts)
    assert (lacking.status_code, lacking.json()["missing"]) == (409, sorted(set(parts)))
    send_blobs(ci, frame(b"one ") + frame(b"two "))
    assert error_of(ci.put(f"/v1/blobs/{'0' * 64}", json=parts)) == (422, "refused")
    assert ci.put(f"/v1/blobs/{whole}", json=parts).json() == {}
    assert ci.get(f"/v1/blobs/{whole}").content == b"one two one "
    assert ci.put(f"/v1/blobs/{whole}", json=parts).json() == {}


def test_a_part_that_is_damaged_is_asked_for_again(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    whole, parts = digest.of_blob(b"one two "), [digest.of_blob(b"one "), digest.of_blob(b"two ")]
    send_blobs(ci, frame(b"one ") + frame(b"two "))
    for each in (acme.folder / "packs").glob("*.pack"):
        each.chmod(0o600)
        each.write_bytes(each.read_bytes().replace(b"two ", b"twO "))
    lacking = ci.put(f"/v1/blobs/{whole}", json=parts)
    assert (lacking.status_code, lacking.json()["missing"]) == (409, parts[1:])
    send_blobs(ci, frame(b"two "))
    assert ci.put(f"/v1/blobs/{whole}", json=parts).json() == {}


def test_a_large_body_is_taken_from_those_alone_who_are_known(acme: Team) -> None:
    unknown = tokens.new().reveal().decode()
    for secret, status in ((unknown, b"401"), (acme.secret("eve", "viewer"), b"403")):
        with socket.create_connection(("127.0.0.1", acme.api.port), timeout=PATIENCE) as raw:
            head = f"POST /v1/segments HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
            raw.sendall(head.encode() + b"Content-Length: 200000000\r\n\r\n" + b" " * (UNKNOWN + 1))
            assert raw.recv(12) == b"HTTP/1.1 " + status


@pytest.mark.parametrize("path", ["/v1/blobs", "/v1/changes"])
def test_a_body_that_trickles_is_not_waited_for(path: str, acme: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "IDLE", 0.3)
    monkeypatch.setattr(uploading, "_SMALL", 0)
    secret = acme.secret("ci", "deployer")
    with socket.create_connection(("127.0.0.1", acme.api.port), timeout=PATIENCE) as raw:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
        raw.sendall(head.encode() + b"Content-Length: 20000\r\n\r\n" + frame(b"", size=20_000))
        raw.settimeout(0.02)
        for _ in range(500):
            raw.sendall(b" ")
            with suppress(TimeoutError):
                assert raw.recv(10) == b"HTTP/1.1 4"
                break
        else:
            pytest.fail("it was waited for")


def test_t6_a_connection_cut_in_the_middle_of_a_blob_leaves_nothing(acme: Team) -> None:
    secret = acme.secret("ci", "deployer")
    content = b"y" * 300_000
    head = f"POST /v1/blobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
    for cut in (1, 39, 40, 1000, 299_999):
        with socket.create_connection(("127.0.0.1", acme.api.port)) as raw:
            raw.sendall(head.encode() + b"Content-Length: 300040\r\n\r\n" + frame(content)[:cut])
    blob = digest.of_blob(content)
    acme.api.close()  # every request that was begun has ended
    assert files_in(acme) == set()
    assert acme.store.missing([blob]) == {blob}


def test_t8_64_clients_with_one_blob_store_it_once(acme: Team) -> None:
    secret = acme.secret("ci", "deployer")
    content = b"z" * 100_000
    ready = threading.Barrier(64)

    def one(_: int) -> int:
        with acme.api.client(secret) as client:
            ready.wait()
            return send_blobs(client, frame(content)).status_code

    with ThreadPoolExecutor(64) as threads:
        assert set(threads.map(one, range(64))) == {200}
    assert len(files_in(acme)) == 1
    ((count,),) = acme.store.database.all("SELECT count(*) FROM blobs")
    ((packs,),) = acme.store.database.all("SELECT count(*) FROM packs")
    assert (count, packs) == (1, 1)
    assert acme.store.verify().leftovers == ()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "C:\\x", "a\x00b", "a//b"])
def test_a_manifest_that_could_not_be_unpacked_is_refused(path: str, ci: httpx.Client) -> None:
    made = Bundle({path: "x"}, main=path)
    send_blobs(ci, frame(b"x"))
    assert error_of(put(ci, made)) == (400, "usage")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"main":"a","files":[],"more":1}', b"\xff", b"[" * 5000])
def test_what_is_no_manifest_is_refused(content: bytes, ci: httpx.Client) -> None:
    name = digest.of("artifact", content)
    assert error_of(ci.put(f"/v1/artifacts/{name}", content=content)) == (400, "usage")


def test_a_manifest_of_another_name_or_sizes_is_refused(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    made = bundle("x")
    send_blobs(ci, frame(b"x"))
    wrong = ci.put(f"/v1/artifacts/{'0' * 64}", content=made.content)
    assert error_of(wrong) == (422, "refused")
    file = msgspec.structs.replace(made.manifest.files[0], size=7)
    content = wire.canonical(msgspec.structs.replace(made.manifest, files=(file,)))
    lying = ci.put(f"/v1/artifacts/{digest.of('artifact', content)}", content=content)
    assert error_of(lying) == (400, "usage")


def test_a_manifest_told_by_a_difference_is_held_to_the_same(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    first = Bundle({"worker.py": "w", "a.txt": "a", "b.txt": "b"})
    acme.store.upload(first)

    def tell(
        files: dict[str, str], *, of: Bundle, name: str | None = None, gone: tuple[str, ...] = ()
    ) -> httpx.Response:
        made = Bundle(files)
        send_blobs(ci, b"".join(frame(text.encode()) for text in files.values()))
        told = Altered(base=of.digest, manifest=made.manifest, gone=gone)
        found = whole(of.manifest, told)
        path = f"/v1/artifacts/{name or digest.of('artifact', wire.canonical(found))}"
        return ci.post(path, content=wire.canonical(told))

    assert tell({"c.txt": "c"}, of=first, gone=("a.txt",)).json() == {}
    assert tell({"../x": "x"}, of=first).status_code == 400
    assert tell({"A.txt": "x"}, of=first).status_code == 400
    assert tell({}, of=first, gone=("worker.py",)).status_code == 400
    assert tell({"c.txt": "c"}, of=first, name="0" * 64).status_code == 422
    assert tell({"c.txt": "c"}, of=bundle("never uploaded")).status_code == 404
    assert acme.store.verify().problems == ()


def test_what_is_damaged_of_the_artifact_before_is_asked_for_again(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    first, second = Bundle({"worker.py": "w", "a.txt": "once"}), Bundle({"worker.py": "w", "a.txt": "once", "b": "b"})
    acme.store.upload(first)
    for each in (acme.folder / "packs").glob("*.pack"):
        each.chmod(0o600)
        each.write_bytes(each.read_bytes().replace(b"once", b"oncE"))
    send_blobs(ci, frame(b"b"))
    told = wire.canonical(altered(first.digest, first.manifest, second.manifest))
    lacking = ci.post(f"/v1/artifacts/{second.digest}", content=told)
    assert (lacking.status_code, lacking.json()["missing"]) == (409, [digest.of_blob(b"once")])
    send_blobs(ci, frame(b"once"))
    assert ci.post(f"/v1/artifacts/{second.digest}", content=told).json() == {}


def test_a_damaged_blob_is_asked_for_again(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    made = bundle("once")
    send_blobs(ci, frame(b"once"))
    assert put(ci, made).json() == {}
    for each in (acme.folder / "packs").glob("*.pack"):
        each.chmod(0o600)
        each.write_bytes(each.read_bytes().replace(b"once", b"oncE"))
    lacking = put(ci, made)
    assert (lacking.status_code, lacking.json()["missing"]) == (409, [made.manifest.files[0].blob])
    assert send_blobs(ci, frame(b"once")).json() == {"blobs": 1, "bytes": 4}
    assert put(ci, made).json() == {}


def test_blobs_ahead_of_their_artifact_outlive_gc_for_a_day(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    send_blobs(ci, frame(b"ahead"))
    made = bundle("ahead")
    acme.store.gc(dry_run=False)
    assert put(ci, made).json() == {}
    send_blobs(ci, frame(b"orphan"))
    assert acme.store.gc(dry_run=False, grace=-1).blobs >= 1
    assert ci.post("/v1/blobs/missing", json=[digest.of_blob(b"orphan")]).json() != []


# ---- limits


def test_bodies_are_refused_before_they_are_read(acme: Team) -> None:
    secret = acme.secret("ci", "deployer")
    for path, size in (("/v1/changes", 11 << 20), ("/v1/seal", (96 << 10) + 1), ("/v1/projects", 1)):
        with socket.create_connection(("127.0.0.1", acme.api.port)) as raw:
            method = "GET" if path == "/v1/projects" else "POST"
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
            raw.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            assert raw.recv(100).startswith(b"HTTP/1.1 413"), path


def test_a_chunked_body_is_refused_at_its_limit(acme: Team) -> None:
    ci = acme.holder("ci", "deployer")
    answer = ci.post("/v1/seal", content=(b"x" * 1000 for _ in range(100)))
    assert error_of(answer) == (413, "usage")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"kind":"configure","vars":{"A":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"kind":"burn"}',
        b'{"kind":"deploy"}',
        b"",
        b"null",
        b"\xff\xfe",
        b'"' + b"\\" * 99_999,
    ],
)
def test_what_is_no_command_is_refused(body: bytes, ci: httpx.Client) -> None:
    assert error_of(ci.post("/v1/changes", content=body, headers=BODY)) == (400, "usage")


def test_a_secret_may_be_as_long_as_on_a_folder(released: Team) -> None:
    ci = released.holder("ci", "deployer")
    said = {}
    for size in (VALUE_SIZE, VALUE_SIZE + 1):
        body = ToSeal(service="shop", environment="staging", name="KEY", value=b"x" * size)
        said[size] = ci.post("/v1/seal", content=wire.canonical(body), headers=BODY)
    assert said[VALUE_SIZE].status_code == 200
    assert error_of(said[VALUE_SIZE + 1])[0] == 413
    assert said[VALUE_SIZE + 1].json()["error"]["message"].startswith("KEY: its value has more than 65536 bytes")


def test_brackets_in_text_are_not_depth(released: Team) -> None:
    ci = released.holder("ci", "deployer")
    answer = released.send(ci, commands.Configure, environment="staging", vars={"A": '[{"' * 1000})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "query", ["a=1", "project=a&project=b", "project=a&limit=0", "project=a&limit=x", "%ff", "=", "project=%ff"]
)
def test_a_query_that_is_none_is_refused(query: str, ci: httpx.Client) -> None:
    assert error_of(ci.get(f"/v1/history?{query}")) == (400, "usage")


@pytest.mark.parametrize("text", ["' OR 1=1 --", '"; DROP TABLE changes; --', "x\r\nX-Evil: 1", "%00", "../../etc"])
def test_text_is_only_ever_text(text: str, released: Team) -> None:
    ada = released.holder("ada", "viewer")
    answers = [
        ada.get("/v1/history", params={"project": text, "actor": text, "commit": text}),
        ada.get("/v1/environments", params={"project": text, "service": text, "name": text}),
        ada.get("/v1/running", params={"commit": text}),
        ada.get("/v1/version", params={"ref": text}),
    ]
    assert {each.status_code for each in answers} <= {200, 400, 404}
    assert all("x-evil" not in each.headers for each in answers)
    assert released.store.verify().problems == ()


# ---- hosts


@pytest.mark.parametrize(
    "hosts",
    [(), ("evil.example",), ("localhost", "localhost"), ("localhost.evil",), ("a@localhost",), ("localhost,evil",)],
)
def test_another_host_is_not_answered(hosts: tuple[str, ...], standing: Team) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    with socket.create_connection(("127.0.0.1", standing.api.port)) as raw:
        raw.sendall(f"GET /health/live HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        assert raw.recv(100).split(b" ")[1] in {b"421", b"400"}


def test_no_answer_is_for_scripts_of_other_pages(acme: Team) -> None:
    secret = acme.secret("ada", "viewer")
    client = acme.anyone(secret, origin="https://evil.example")
    answers = [client.get("/v1/projects"), client.options("/v1/projects"), client.get("/health/live")]
    assert not [name for each in answers for name in each.headers if name.startswith("access-control")]


# ---- the log


def test_the_log_has_a_line_for_each_request_and_no_secret(released: Team) -> None:
    ada = released.secret("ada", "admin")
    client = released.anyone(ada, **{"x-request-id": "my-request-1"})
    value = "aHVudGVyMi1odW50ZXIy"
    body = {"service": "shop", "environment": "staging", "name": "KEY", "value": value}
    sealed = client.post("/v1/seal", json=body)
    assert sealed.status_code == 200
    client.get("/v1/history?project=acme&actor=somebody")
    client.post("/v1/seal", content=b'{"value":"' + value.encode() + b'"')
    client.get(f"/v1/{ada}")
    released.anyone().get("/v1/projects")
    released.api.close()
    text = "\n".join(released.api.lines)
    assert [(each["path"], each["status"], each["token"]) for each in released.api.log][:3] == [
        ("/v1/seal", 200, "ada"), ("/v1/history", 200, "ada"), ("/v1/seal", 400, "ada"),
    ]  # fmt: skip
    assert {each["request"] for each in released.api.log[:3]} == {"my-request-1"}
    assert sealed.headers["x-request-id"] == "my-request-1"
    for secret in (ada, value, "hunter2", "somebody", "Bearer"):
        assert secret not in text


def test_a_bug_tells_nothing_but_its_request(acme: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = acme.holder("ada", "viewer")

    def broken(*_: object) -> object:
        raise RuntimeError("the words of a bug")

    monkeypatch.setattr("svcctl.backend.store.reads.Reads.projects", broken)
    answer = ada.get("/v1/projects")
    assert error_of(answer) == (500, "bug")
    assert "words" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["hint"]
    acme.api.close()
    said = acme.api.log[-1]
    assert said["error"] == "bug: RuntimeError"
    assert re.match(r"test_api\.py:\d+ broken < store\.py:\d+ projects < guarded\.py:\d+ projects < ", said["detail"])
    assert "words" not in said["detail"]


def test_when_a_token_was_used_is_kept(acme: Team) -> None:
    acme.holder("ada", "viewer").get("/v1/projects")
    acme.api.close()
    (token,) = acme.store.tokens()
    assert token.used is not None


# ---- the document


def test_the_document_describes_every_route(acme: Team) -> None:
    ada = acme.holder("ada", "viewer")
    document = ada.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES} | {
        ("GET", "/health/live"), ("GET", "/health/ready"),
    }  # fmt: skip


def test_the_page_names_every_route() -> None:
    text = (Path(__file__).parent.parent / "docs/api.md").read_text()
    for route in ROUTES:
        if route.path != "/openapi.json":
            assert f"`{route.method} {route.path}" in text, route.path

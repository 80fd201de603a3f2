"""`svcctl serve` through the wire: who answers, what is live when, and connections in every shape."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from serving import (
    PATIENCE,
    WIRE,
    Client,
    Server,
    Site,
    chunked,
    connected,
    get,
    is_alive,
    listening,
    passing,
    post,
    until,
)

WIRED = "wire--shop.localhost"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """v1 in production and staging; what tests of the wire need, in wire."""
    site = Site.new(tmp_path_factory.mktemp("site"))
    site.live("v1")
    site.code("shop", WIRE)
    site.done("env", "create", "wire")
    site.done("deploy", "--env", "wire")
    return site


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with site.serving() as server:
        yield server


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that a test may change."""
    return Site.new(tmp_path_factory.mktemp("own"))


# ---- who answers


def test_it_announces_where_each_environment_answers(server: Server):
    assert server.announced["host"] == "127.0.0.1"
    addresses = {each["ref"]: each for each in server.announced["addresses"]}
    assert addresses["shop/production@1"] == {
        "url": f"http://shop.localhost:{server.port}/",
        "ref": "shop/production@1",
        "state": "live",
    }


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("shop.localhost", "shop v1"),
        ("auth.localhost", "auth v1"),
        ("staging--shop.localhost", "shop v1"),
        ("SHOP.LocalHost:8787", "shop v1"),
        ("shop.localhost.", "shop v1"),
        (WIRED, "wire"),
    ],
)
def test_an_environment_answers_at_its_hostname(host: str, text: str, server: Server):
    assert (server.get(host).status, server.get(host).text) == (200, text)


@pytest.mark.parametrize("host", ["other.localhost", "localhost", "127.0.0.1:1", "a.shop.localhost", "[::1]"])
def test_t28_an_unknown_host_gets_404_never_a_default(host: str, server: Server):
    answer = server.get(host)
    assert answer.status == 404
    assert answer.text == f"nothing is deployed at {host.removesuffix(':1')}\n"


@pytest.mark.parametrize(
    "host", ["user@shop.localhost", "shop.localhost/x", "shop.localhost, auth.localhost", "", "a b"]
)
def test_t28_what_is_no_host_is_refused(host: str, server: Server):
    with server.client() as client:
        assert client.ask(get(host)).status == 400
        assert client.is_closed()


def test_t28_two_hosts_are_refused_on_a_kept_connection_too(server: Server):
    with server.client() as client:
        assert client.ask(get(WIRED)).status == 200
        assert client.ask(get(WIRED, "/", "Host: auth.localhost")).status == 400
        assert client.is_closed()


def test_the_answer_to_a_head_has_no_body(server: Server):
    with server.client() as client:
        assert client.ask(get(WIRED, method="HEAD")).header("content-length") == "4"
        assert client.ask(get("auth.localhost", method="HEAD")).header("content-length") == "7"
        assert client.ask(get("nobody.localhost", method="HEAD")).status == 404
        assert client.is_closed()


# ---- one connection, several hosts


def test_a_kept_connection_carries_the_requests_of_several_hosts(server: Server):
    hosts = {"shop.localhost": "shop v1", "auth.localhost": "auth v1", WIRED: "wire"}
    with server.client() as client:
        for host in (*hosts, *hosts, *reversed(hosts)):
            assert client.ask(get(host)).text == hosts[host]


def test_pipelined_requests_are_answered_in_order_each_by_its_own_host(server: Server):
    hosts = ["shop.localhost", "auth.localhost", "auth.localhost", WIRED, "shop.localhost"] * 5
    with server.client() as client:
        client.send(b"".join(map(get, hosts)))
        assert [client.answer().text for _ in hosts] == [
            "wire" if host == WIRED else f"{host.partition('.')[0]} v1" for host in hosts
        ]


def test_a_pipelined_request_behind_a_body_is_the_next_one(server: Server):
    body = b"GET /smuggled HTTP/1.1\r\nHost: auth.localhost\r\n\r\n"
    with server.client() as client:
        client.send(post(WIRED, "/echo", body) + get("auth.localhost") + post(WIRED, "/whole", body))
        assert client.answer().body == body
        assert client.answer().text == "auth v1"
        assert client.answer().text == f"{len(body)} bytes"


# ---- bodies


def test_bodies_with_a_length_and_in_chunks(server: Server):
    with server.client() as client:
        assert client.ask(post(WIRED, "/echo", b"hello")).body == b"hello"
        head = get(WIRED, "/echo", "Transfer-Encoding: chunked", method="POST")
        assert client.ask(head + chunked(b"hello ", b"in ", b"chunks")).body == b"hello in chunks"
        assert client.ask(post(WIRED, "/whole", b"")).text == "0 bytes"


def test_large_bodies_both_ways(server: Server):
    with server.client() as client:
        assert client.ask(post(WIRED, "/whole", b"x" * 5_000_000)).text == "5000000 bytes"
        assert len(client.ask(get(WIRED, "/large?size=5000000")).body) == 5_000_000


def test_streams_both_ways_at_once(server: Server):
    with server.client() as client:
        client.send(get(WIRED, "/echo", "Transfer-Encoding: chunked", method="POST"))
        client.send(b"4\r\nping\r\n")
        assert client.head()[0] == 200
        for word in (b"ping", b"pong", b"pang"):
            assert client.chunk() == word
            client.send(b"4\r\np" + {b"ping": b"ong", b"pong": b"ang", b"pang": b"ung"}[word] + b"\r\n")
        assert client.chunk() == b"pung"
        client.send(b"0\r\n\r\n")
        assert client.chunk() == b""


def test_a_client_that_expects_100_continue_hears_it_when_its_body_is_wanted(server: Server):
    head = get(WIRED, "/whole", "Content-Length: 5", "Expect: 100-continue", method="POST")
    with server.client() as client:
        assert client.ask(head).status == 100
        assert client.ask(b"hello").text == "5 bytes"


def test_a_body_that_breaks_the_rules_is_refused(server: Server):
    with server.client() as client:
        head = get(WIRED, "/whole", "Transfer-Encoding: chunked", method="POST")
        assert client.ask(head + b"5\r\nhello\r\nno size\r\n").status == 400
        assert client.is_closed()


# ---- other versions


def test_http_1_0_gets_its_answer_and_the_end(server: Server):
    with server.client() as client:
        assert client.ask(get(WIRED, version="1.0")).text == "wire"
        assert client.is_closed()


def test_upgrade_is_ignored(server: Server):
    offers = "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"
    with server.client() as client:
        for request in (get(WIRED, "/", *offers), get("auth.localhost", "/", *offers), get("auth.localhost")):
            assert client.ask(request).status == 200
        assert client.ask(get(WIRED, "/whole", *offers, "Content-Length: 2", method="POST") + b"ab").text == "2 bytes"


# ---- where a request came from

FORWARDED = ("X-Forwarded-For: 192.0.2.9, 198.51.100.1", "X-Forwarded-Proto: https", "X-Real-IP: 192.0.2.9")


def of(answer_text: str) -> dict[str, str]:
    return dict(json.loads(answer_text))


def test_nobody_is_believed_who_was_not_trusted(server: Server):
    headers = of(server.get(WIRED, "/headers", *FORWARDED, "Forwarded: for=192.0.2.9").text)
    assert headers["x-forwarded-for"] == headers["cf-connecting-ip"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert {"forwarded", "x-real-ip"}.isdisjoint(headers)
    assert server.get(WIRED, "/url", *FORWARDED).text == f"GET http://{WIRED}/url"


def test_a_trusted_proxy_says_who_the_client_is(site: Site):
    with site.serving("--trusted-proxy", "127.0.0.0/8") as server, server.client() as client:
        for _ in range(2):  # handed over, and kept
            headers = of(client.ask(get(WIRED, "/headers", *FORWARDED)).text)
            assert headers["x-forwarded-for"] == "198.51.100.1", "the nearest that is no proxy of ours"
            assert headers["x-forwarded-proto"] == "https"
        assert client.ask(get(WIRED, "/url", *FORWARDED)).text == f"GET https://{WIRED}/url"


# ---- what is live


def test_changes_of_another_process_are_live_without_a_restart(own: Site):
    own.live("v1")
    with own.serving() as server, ExitStack() as stack:
        production = stack.enter_context(server.client())
        assert production.ask(get("shop.localhost")).text == "shop v1"
        own.write("v2")
        own.done("deploy")
        server.becomes("staging--shop.localhost", "shop v2")
        assert production.ask(get("shop.localhost")).text == "shop v1"

        own.done("promote", "staging", "production", "--yes")
        server.becomes("shop.localhost", "shop v2")
        server.becomes("auth.localhost", "auth v2")
        assert production.ask(get("shop.localhost")).text == "shop v2", "the old connection is at the new version"

        own.done("rollback", "--yes")
        server.becomes("shop.localhost", "shop v1")

        own.done("env", "clone", "staging", "preview")
        server.becomes("preview--shop.localhost", "shop v2")
        own.done("env", "rename", "preview", "look")
        server.becomes("look--shop.localhost", "shop v2")
        assert server.get("preview--shop.localhost").status == 404
        own.done("routes", "add", "shop.example.com/*", "-s", "shop", "--env", "look", "--cli")
        server.becomes("shop.example.com", "shop v2", "/any")
        own.done("env", "delete", "look", "--confirm", "look")
        server.becomes("look--shop.localhost", "nothing is deployed at look--shop.localhost\n")
        assert server.get("shop.example.com").status == 404


SETTINGS = """\
from workers import Response

async def fetch(request, env, ctx):
    return Response(f"{env.LOG} {getattr(env, 'KEY', None)}")
"""


def test_vars_and_secrets_are_live_without_a_restart(own: Site):
    own.code("shop", SETTINGS)
    own.code("auth", SETTINGS)
    own.done("deploy")
    with own.serving() as server:
        server.becomes("staging--shop.localhost", "info None")
        own.done("vars", "set", "LOG=debug", "--env", "staging")
        server.becomes("staging--shop.localhost", "debug None")
        own.done("secrets", "set", "KEY", "--env", "staging", typed="hunter2")
        server.becomes("staging--shop.localhost", "debug hunter2")


def test_what_is_not_live_says_why(own: Site):
    own.code("auth", SETTINGS)
    own.code("shop", SETTINGS)
    services = own.folder / "services.toml"
    services.write_text(services.read_text().replace('optional = ["KEY"]\n', ""))
    own.done("secrets", "set", "KEY", "--env", "staging", typed="hunter2")
    with own.serving() as server:
        assert "shop/staging has settings and no code yet\n" in server.get("staging--shop.localhost").text
        assert server.get("shop.localhost").text == "shop/production has no version yet\n"
        own.done("deploy")
        server.becomes("staging--shop.localhost", "info hunter2")
        own.done("env", "clone", "staging", "bare", "--no-secrets")
        server.becomes("bare--shop.localhost", "shop/bare is not live: it lacks secret KEY\n")
        answer = server.get("bare--shop.localhost")
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        own.done("secrets", "set", "KEY", "--env", "bare", typed="hunter3")
        server.becomes("bare--shop.localhost", "info hunter3")


def test_a_cache_may_be_named_from_where_serve_is_typed(own: Site):
    own.live("v1")
    with own.serving("--cache", "kept") as server:
        assert server.get("shop.localhost").text == "shop v1"
    assert any((own.folder / "kept/artifacts").iterdir())


def test_a_store_may_come_after_serve(own: Site):
    with own.serving() as server:
        assert server.announced["addresses"] == []
        assert server.get("shop.localhost").status == 404
        own.live("v1")
        server.becomes("shop.localhost", "shop v1")


def test_two_serve_one_store(own: Site):
    own.live("v1")
    with own.serving() as one, own.serving() as other:
        for server in (one, other):
            assert server.get("shop.localhost").text == "shop v1"
        own.live("v2")
        for server in (one, other):
            server.becomes("shop.localhost", "shop v2")


# ---- slow and hostile clients


def test_t27_idle_and_half_open_connections_hold_up_nobody(site: Site):
    with site.serving() as server:
        assert server.get(WIRED).text == "wire"
        before = server.descriptors()
        with connected(server.port, 400) as clients:
            for number, client in enumerate(clients):
                client.send(b"GET / HTTP/1.1\r\nHost: shop.localh"[: number % 34])
            assert server.get(WIRED).text == "wire"
            clients[0].send(get(WIRED))
            assert clients[0].answer().text == "wire"
        until(lambda: server.descriptors() <= before)


def test_t27_a_request_may_come_byte_by_byte(server: Server):
    with server.client() as client:
        for byte in get(WIRED, "/url") + get("auth.localhost"):
            client.send(bytes([byte]))
        assert client.answer().text == f"GET http://{WIRED}/url"
        assert client.answer().text == "auth v1"


@pytest.mark.parametrize("kept", [False, True])
def test_t27_an_oversized_head_is_refused(kept: bool, server: Server):
    with server.client() as client:
        if kept:
            assert client.ask(get(WIRED)).status == 200
        client.send(get(WIRED, "/", f"X: {'x' * 70_000}"))
        assert client.answer().status == 431
        assert client.is_closed()


def test_t27_readers_that_never_read_hold_up_nobody(server: Server):
    with connected(server.port, 20) as clients:
        for client in clients:
            client.send(get(WIRED, "/large?size=20000000"))
            assert client.head()[0] == 200
        assert server.get(WIRED).text == "wire"


def test_a_large_body_for_nobody_is_still_answered(server: Server):
    with server.client() as client:
        assert client.ask(post("nobody.localhost", "/", b"x" * 3_000_000)).status == 404


@pytest.mark.soak
def test_t27_ten_thousand_idle_connections(site: Site):
    with site.serving() as server, connected(server.port, 9_000) as clients:
        for client in clients[:1_000]:
            assert client.ask(get(WIRED)).text == "wire"
        assert server.get("shop.localhost").text == "shop v1"


# ---- ends


def at_work(client: Client, path: str = "/begun", length: int = 4) -> None:
    """A request whose handler has begun and waits for the client's word."""
    client.send(get(WIRED, path, f"Content-Length: {length}", "Expect: 100-continue", method="POST"))
    assert client.head()[0] == 100


def test_t22_sigterm_finishes_what_runs(site: Site):
    with site.serving() as server, connected(server.port, 20) as slow:
        with server.client() as upload, server.client() as stream, server.client() as idle:
            assert idle.ask(get(WIRED)).status == 200
            for client in slow:
                at_work(client)
            at_work(upload, "/whole", 1_000_000)
            upload.send(b"x" * 400_000)
            stream.send(get(WIRED, "/echo", "Transfer-Encoding: chunked", method="POST") + b"4\r\nping\r\n")
            assert stream.head()[0] == 200
            assert stream.chunk() == b"ping"

            server.terminate()
            assert idle.is_closed(), "nothing runs on it"
            stream.send(chunked(b"pong"))
            assert [stream.chunk(), stream.chunk()] == [b"pong", b""]
            upload.send(b"x" * 600_000)
            assert upload.answer().text == "1000000 bytes"
            for client in slow:
                client.send(b"done")
                assert client.answer().text == "done"
        assert server.ended() == 0


def test_t22_what_does_not_end_is_told_so_at_the_deadline(site: Site):
    with site.serving("--drain", "0.2") as server, server.client() as slow, server.client() as stream:
        at_work(slow)
        stream.send(get(WIRED, "/echo", "Transfer-Encoding: chunked", method="POST") + b"4\r\nping\r\n")
        assert stream.head()[0] == 200
        server.terminate()
        assert slow.answer().status == 503
        assert stream.chunk() == b"ping"
        with pytest.raises(ConnectionResetError):
            stream.chunk()
        assert server.ended() == 0


def test_t22_a_second_sigterm_is_immediate(site: Site):
    with site.serving("--drain", "1000") as server, server.client() as slow, server.client() as idle:
        assert idle.ask(get(WIRED)).status == 200
        at_work(slow)
        processes = [server.parent, *server.workers]
        server.terminate()
        assert idle.is_closed(), "the first one was heard"
        server.terminate()
        assert server.ended() == 128 + signal.SIGTERM
        assert slow.is_closed()
        until(lambda: not any(map(is_alive, processes)))


def test_an_idle_worker_is_stopped_and_the_next_request_starts_another(site: Site):
    with site.serving("--idle", "1") as server, server.client() as client:
        first = client.ask(get(WIRED, "/pid")).text
        until(lambda: not is_alive(int(first)))
        assert client.ask(get(WIRED, "/pid")).text != first, "and the connection stayed"


# ---- systemd


def test_it_serves_on_the_socket_that_systemd_passed(site: Site):
    with listening() as (sock, passed), closing(Client(sock.getsockname()[1])) as early:
        early.send(get(WIRED))
        with site.serving(**passed) as server:
            assert server.port == sock.getsockname()[1]
            assert early.answer().text == "wire", "who came before it was there"


def test_a_socket_of_another_kind_is_refused(site: Site, tmp_path: Path):
    (tmp_path / "file").touch()
    with (tmp_path / "file").open() as file:
        ended = site.start("serve", **passing(file.fileno())).ended()
    assert ended.status == 1
    assert "what systemd passed is no socket" in ended.err


def test_systemd_is_told_when_it_is_ready_and_when_it_ends(site: Site, tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.settimeout(PATIENCE)
        notified.bind(str(tmp_path / "notify"))
        with site.serving(NOTIFY_SOCKET=str(tmp_path / "notify")):
            assert notified.recv(100) == b"READY=1"
        assert notified.recv(100) == b"STOPPING=1"

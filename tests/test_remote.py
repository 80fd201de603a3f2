"""A backend on another machine: what goes wrong on the way, and what an API may say."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from apis import Team, team
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from cutting import Proxy, Trick
from remotely import InProcess, api, remote
from scene import Bundle, Clock, People, Scene, bundle

from svcctl import commands, digest, reference, tokens
from svcctl.backend import address
from svcctl.backend.base import Filter
from svcctl.backend.remote import Patience, Remote
from svcctl.backend.store import Store
from svcctl.errors import (
    Conflict,
    Damage,
    Forbidden,
    NotFound,
    Refused,
    SvcctlError,
    Throttled,
    TooLarge,
    Unauthorized,
    Unreachable,
    UsageError,
)
from svcctl.keyvalues import Entry, KVError, Larger
from svcctl.sealing import SecretValue

ONCE = Patience(connect=2, answer=5, pauses=())
QUICK = Patience(connect=2, answer=5, pauses=(0.01, 0.01, 0.01))
SECRET = tokens.new()


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Team]:
    """A team whose API is on a real port."""
    with team(tmp_path) as found:
        yield found


@pytest.fixture
def admin(acme: Team) -> SecretValue:
    return SecretValue(acme.secret("ada", "admin"))


class Answering(httpx.BaseTransport):
    """What an API could say: answers in their order, the last one for ever; requests are kept."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = list(answers)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def problem(status: int, code: str, message: str = "no", **headers: str) -> httpx.Response:
    error = {"code": code, "message": message, "hint": None, "next": None}
    return httpx.Response(status, json={"error": error}, headers=headers)


def told_by(*answers: httpx.Response | Exception, patience: Patience = QUICK) -> tuple[Remote, Answering]:
    transport = Answering(*answers)
    return Remote("https://svc.example.com", SECRET, transport, patience=patience), transport


GOOD = httpx.Response(200, json=["acme"])


# ---- what may be a backend


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("https://svc.example.com", "https://svc.example.com"),
        ("HTTPS://Svc.Example.com:443/", "https://svc.example.com"),
        ("https://svc.example.com:8443/team/", "https://svc.example.com:8443/team"),
        ("http://127.0.0.1:8700", "http://127.0.0.1:8700"),
        ("http://localhost:80/", "http://localhost"),
        ("http://[::1]:8700", "http://[::1]:8700"),
    ],
)
def test_urls_that_mean_the_same_are_one(typed: str, normal: str):
    assert address.normal(typed) == normal


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("http://svc.example.com", "plain http"),
        ("http://127.0.0.1.example.com", "plain http"),
        ("http://192.168.1.7:8700", "plain http"),
        ("https://ada:hunter2@svc.example.com", "must not hold credentials"),
        ("https://hunter2@svc.example.com", "must not hold credentials"),
        ("https://svc.example.com/?token=hunter2", "neither"),
        ("https://", "not the URL of an API"),
        ("https://svc.example.com:port", "not a URL"),
        ("ftp://svc.example.com", "not the URL of an API"),
        ("https://svc.example.com/\r\nx", "not the URL of an API"),
    ],
)
def test_urls_that_would_show_a_token_or_lead_nowhere_are_refused(typed: str, why: str):
    with pytest.raises(UsageError, match=why) as refused:
        Remote(typed, SECRET)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in (refused.value.next or "")


# ---- what an API may answer


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (problem(409, "conflict", "staging moved"), Conflict, "staging moved"),
        (problem(422, "refused"), Refused, "no"),
        (problem(403, "forbidden"), Forbidden, "no"),
        (problem(404, "not_found"), NotFound, "no"),
        (problem(400, "usage"), UsageError, "no"),
        (problem(500, "damage"), Damage, "no"),
        (problem(503, "unreachable", "the store is locked"), Unreachable, "locked"),
        (problem(401, "forbidden", "this token is not known here"), Unauthorized, "not known"),
        (problem(500, "bug", "this is a bug", **{"x-request-id": "abc12345"}), Unreachable, "request abc12345"),
        (problem(418, "teapot", "short and stout"), Unreachable, "short and stout"),
        (httpx.Response(401), Unauthorized, "401: not logged in"),
        (httpx.Response(403, text="<html>"), Forbidden, "403: not allowed"),
        (httpx.Response(404, text="<html>"), NotFound, "404: nothing there"),
        (httpx.Response(413), TooLarge, "413"),
        (httpx.Response(429), Throttled, "429"),
        (httpx.Response(500, text="oops"), Unreachable, "500"),
        (httpx.Response(502), Unreachable, "nothing behind its proxy"),
        (httpx.Response(200, text="<html>"), Unreachable, "can't be understood"),
        (httpx.Response(200, json={"projects": []}), Unreachable, "can't be understood"),
        (httpx.Response(200, content=b"[" * 100_000), Unreachable, "can't be understood"),
        (httpx.Response(200, content=b"\xff"), Unreachable, "can't be understood"),
        (httpx.Response(302, headers={"location": "https://evil.example/"}), Unreachable, "sends to https://evil.ex"),
    ],
)  # fmt: skip
def test_errors_come_back_as_the_same_tree(answer: httpx.Response, kind: type[SvcctlError], words: str):
    backend, transport = told_by(answer)
    with pytest.raises(kind, match=words) as raised:
        backend.projects()
    assert type(raised.value) is kind
    assert all(request.url.host == "svc.example.com" for request in transport.asked)


def test_an_api_of_another_version_is_named():
    backend, _ = told_by(httpx.Response(404, headers={"svcctl-version": "9.9.9"}))
    with pytest.raises(NotFound) as raised:
        backend.projects()
    assert raised.value.hint is not None
    assert "the API is svcctl 9.9.9" in raised.value.hint


def test_without_a_token_it_says_how_to_log_in():
    transport = Answering(problem(401, "forbidden", "a token is needed"))
    with pytest.raises(Unauthorized, match="no token for https://svc") as raised:
        Remote("https://svc.example.com", None, transport).projects()
    assert raised.value.next == "svcctl login https://svc.example.com"
    assert "authorization" not in transport.asked[0].headers


@pytest.mark.parametrize(
    "first",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("cut"),
        httpx.ReadTimeout("slow"),
        httpx.Response(502),
        problem(503, "unreachable"),
        problem(429, "unreachable", **{"retry-after": "0"}),
    ],
)
def test_what_may_be_done_twice_is_tried_again(first: httpx.Response | Exception):
    backend, transport = told_by(first, GOOD)
    assert backend.projects() == ("acme",)
    assert len(transport.asked) == 2


@pytest.mark.parametrize("first", [problem(409, "conflict"), problem(403, "forbidden"), httpx.Response(404)])
def test_what_was_refused_is_not_asked_again(first: httpx.Response):
    backend, transport = told_by(first, GOOD)
    with pytest.raises(SvcctlError):
        backend.projects()
    assert len(transport.asked) == 1


def test_a_change_is_tried_again_under_its_id():
    command = commands.Prune(id=commands.new_id(), project=commands.NO_PROJECT)
    done = httpx.Response(200, json={"kind": "prune", "actor": "ada"})
    backend, transport = told_by(httpx.ReadError("reset"), done)
    backend.apply(command)
    assert {json.loads(request.content)["id"] for request in transport.asked} == {command.id}
    assert len(transport.asked) == 2


@pytest.mark.parametrize(
    "answers",
    [
        (httpx.ReadError("reset"), httpx.Response(404, text="no replica")),
        (httpx.ReadError("reset"), httpx.Response(403, text="<html>")),
        (httpx.ReadError("reset"), problem(401, "forbidden", "this token was revoked")),
        (httpx.Response(502), httpx.Response(413)),
        (httpx.Response(404, text="no replica"),),
        (httpx.Response(302, headers={"location": "https://example.com/"}),),
    ],
)
def test_i8_only_the_store_says_that_a_change_was_not_done(answers: tuple[httpx.Response | Exception, ...]):
    """A command line that hears that settles with it, and the same command typed again would be another one."""
    backend, transport = told_by(*answers)
    with pytest.raises(Unreachable) as caught:
        backend.apply(commands.Prune(id=commands.new_id(), project=commands.NO_PROJECT))
    assert caught.value.hint == "what was asked may be done; type it again to know"
    assert len(transport.asked) == len(answers)


def test_what_the_store_says_of_a_change_after_a_broken_try_is_believed():
    backend, _ = told_by(httpx.ReadError("reset"), problem(409, "conflict", "staging moved"))
    with pytest.raises(Conflict, match="staging moved"):
        backend.apply(commands.Prune(id=commands.new_id(), project=commands.NO_PROJECT))


def test_a_write_to_kv_is_sent_once():
    backend, transport = told_by(httpx.ReadError("reset"), httpx.Response(200, json=None))
    with pytest.raises(Unreachable):
        backend.keyvalues.put("n", "k", b"v", None, None)
    with pytest.raises(Unreachable):
        told_by(httpx.ReadError("reset"))[0].keyvalues.delete("n", "k")
    assert len(transport.asked) == 1


def test_the_store_s_words_are_not_lost_when_patience_is():
    backend, transport = told_by(problem(503, "unreachable", "the store is locked by 4711"))
    with pytest.raises(Unreachable, match="locked by 4711"):
        backend.projects()
    assert len(transport.asked) == 4


# ---- an API that lies


class Liar(httpx.BaseTransport):
    """An honest API, whose answers are altered on the way."""

    def __init__(self, inner: InProcess) -> None:
        self.inner = inner
        self.lie: Callable[[httpx.Request, bytes], bytes] = lambda _, content: content

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.inner.handle_request(request)
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return httpx.Response(answer.status_code, headers=headers, content=self.lie(request, answer.content))


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[tuple[Scene, Liar]]:
    people, clock = People(), Clock()
    with api(lambda: Store.open(tmp_path / "store", actor=people, clock=clock), people) as inner:
        transport = Liar(inner)
        yield Scene(remote(transport), clock, people), transport


def test_other_bytes_than_were_asked_for_are_refused(liar: tuple[Scene, Liar]):
    scene, transport = liar
    scene.deploy(shop="a1", auth="b1")
    scene.deploy(shop="a2")
    backend, new, old = scene.backend, scene.version("shop/staging"), scene.version("shop/staging@1")
    assert new.code
    manifest = backend.manifest(new.code.digest)
    honest = {digest.of_blob(b"a1"): b"a1"}

    def swap(old: bytes, new: bytes) -> None:
        transport.lie = lambda _, content: content.replace(old, new)

    swap(b"a2", b"a1")
    with pytest.raises(Damage, match="other bytes"):
        backend.open_blob(manifest.files[0].blob)
    swap(b"a2", b"a")
    with pytest.raises(Damage, match="other bytes"):
        backend.open_blob(manifest.files[0].blob)
    swap(manifest.files[0].blob.encode(), next(iter(honest)).encode())
    with pytest.raises(Damage, match="a manifest other than"):
        backend.manifest(new.code.digest)
    swap(b'"info"', b'"debug"')
    with pytest.raises(Damage, match="settings other than"):
        backend.settings(new.settings.digest)
    swap(b'"number":2', b'"number":1')
    with pytest.raises(Damage, match="a version other than"):
        backend.version(reference.parse("shop/staging@2"))
    swap(b"staging", b"production")
    with pytest.raises(Damage, match="a version other than"):
        backend.version(reference.parse("shop/staging"))
    with pytest.raises(Damage, match="an environment other than"):
        backend.environment("shop", "staging")
    assert old.number == 1


def test_a_list_that_is_older_than_one_before_is_refused(liar: tuple[Scene, Liar]):
    scene, transport = liar
    scene.deploy(shop="a1", auth="b1")
    kept: dict[str, bytes] = {}
    transport.lie = lambda request, content: kept.setdefault(request.url.path, content)
    scene.backend.follow(0)
    transport.lie = lambda _, content: content
    scene.deploy(shop="a2")
    assert scene.backend.follow(0).number == 2
    transport.lie = lambda request, content: kept.get(request.url.path, content)
    with pytest.raises(Damage, match="there are 1 changes, and there were 2"):
        scene.backend.follow(1)
    transport.lie = lambda _, content: content.replace(b"2", b"1")
    with pytest.raises(Damage, match="there are 1 changes, and there were 2"):
        scene.backend.wait(0, 0)


def test_an_answer_to_another_change_leaves_the_outcome_open(liar: tuple[Scene, Liar]):
    """Not Damage: the command may have been done, and must stay pending."""
    scene, transport = liar
    scene.deploy(shop="a1", auth="b1")
    command = scene.ask(commands.CreateEnvironment, environment="qa")
    transport.lie = lambda _, content: content.replace(command.id.encode(), commands.new_id().encode())
    with pytest.raises(Unreachable, match="another change"):
        scene.backend.apply(command)
    transport.lie = lambda _, content: content[: len(content) // 2]
    with pytest.raises(Unreachable):
        scene.backend.apply(command)
    transport.lie = lambda _, content: content
    assert scene.backend.apply(command).id == command.id


def test_secrets_under_other_names_are_refused(liar: tuple[Scene, Liar]):
    scene, transport = liar
    scene.deploy(shop="a1", auth="b1")
    scene.secret("shop/staging", "KEY", "one")
    place = scene.backend.environment("shop", "staging")
    fingerprints = scene.settings("shop/staging").secrets
    assert scene.backend.reveal(place.id, fingerprints)["KEY"].reveal() == b"one"
    transport.lie = lambda _, content: content.replace(b"KEY", b"OLD")
    with pytest.raises(Damage, match="secrets other than"):
        scene.backend.reveal(place.id, fingerprints)


# ---- on the wire


def serve_once(answer: bytes) -> int:
    """The port of a server that gives this answer to every connection, and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for _ in range(4):
                listener.settimeout(5)
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n["acme"]',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n["acme"]\r\n',
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
def test_an_answer_that_is_cut_is_none(answer: bytes):
    with (
        closing(Remote(f"http://127.0.0.1:{serve_once(answer)}", SECRET, patience=ONCE)) as backend,
        pytest.raises(Unreachable, match="the connection to http"),
    ):
        backend.projects()


def test_a_server_that_is_not_there_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with (
        closing(Remote(f"http://127.0.0.1:{port}", SECRET, patience=ONCE)) as backend,
        pytest.raises(Unreachable, match=f"^http://127.0.0.1:{port} can't be reached: Connection refused$"),
    ):
        backend.projects()


def test_a_server_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patience = Patience(connect=1, answer=0.2, pauses=())
        with (
            closing(Remote(f"http://127.0.0.1:{silent.getsockname()[1]}", SECRET, patience=patience)) as backend,
            pytest.raises(Unreachable, match="did not answer in time"),
        ):
            backend.projects()


def test_the_proxy_of_the_environment_is_not_shown_what_stays_here(
    acme: Team, admin: SecretValue, monkeypatch: pytest.MonkeyPatch
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with closing(Remote(acme.api.url, admin, patience=ONCE)) as backend:
        assert backend.projects() == ()


def test_the_proxy_of_the_environment_leads_to_other_machines(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        heard: list[bytes] = []

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                heard.append(connection.recv(65_536))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        with (
            closing(Remote("https://svc.example.com", SECRET, patience=ONCE)) as backend,
            pytest.raises(Unreachable, match="the proxy refused: 403"),
        ):
            backend.projects()
        thread.join()
        assert heard[0].startswith(b"CONNECT svc.example.com:443")
        assert SECRET.reveal() not in heard[0]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of localhost, by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.now(UTC) - timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def tls(certificate: Path) -> Iterator[str]:
    """The URL of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except ssl.SSLError:
                continue
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n["acme"]')

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"https://localhost:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_certificate_that_nobody_vouches_for_is_refused(tls: str):
    with (
        closing(Remote(tls, SECRET, patience=ONCE)) as backend,
        pytest.raises(Unreachable, match="its certificate is not trusted: self") as raised,
    ):
        backend.projects()
    assert raised.value.hint is not None
    assert "SSL_CERT_FILE" in raised.value.hint


def test_a_certificate_authority_of_ones_own_is_honoured(tls: str, certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with closing(Remote(tls, SECRET, patience=ONCE)) as backend:
        assert backend.projects() == ("acme",)


def test_a_server_that_speaks_no_tls_is_said_so(acme: Team):
    url = acme.api.url.replace("http:", "https:")
    with closing(Remote(url, SECRET, patience=ONCE)) as backend, pytest.raises(Unreachable, match="does not speak TLS"):
        backend.projects()


# ---- cut, delayed, doubled


def scene_of(backend: Remote, acme: Team) -> Scene:
    return Scene(backend, acme.clock, People())


def numbers(acme: Team, place: str) -> list[int]:
    return acme.scene.numbers(place)


def cut_at_any_byte(acme: Team, admin: SecretValue, step: int) -> None:
    acme.scene.deploy(shop="a1", auth="b1")
    with Proxy(acme.api.port) as proxy:
        with closing(Remote(proxy.url, admin, patience=ONCE)) as backend:
            backend.apply(acme.scene.ask(commands.Configure, environment="staging", services=("shop",), vars={"X": 0}))
        sizes = proxy.up, proxy.down
        for number, trick in enumerate(
            [*(Trick(up=k) for k in range(1, sizes[0], step)), *(Trick(down=k) for k in range(1, sizes[1], step))], 1
        ):
            command = acme.scene.ask(
                commands.Configure, environment="staging", services=("shop",), vars={"X": number % 7 + 1}
            )
            before = acme.scene.head("shop/staging") or 0
            proxy.next(trick)
            with closing(Remote(proxy.url, admin, patience=ONCE)) as backend:
                with suppress(Unreachable):
                    backend.apply(command)
                done = backend.change(command.id)
                again = backend.apply(command)
            assert done in (None, again)
            assert again.id == command.id
            assert acme.scene.head("shop/staging") == before + 1, trick
    assert acme.store.verify().problems == ()


def test_a_change_that_is_cut_at_any_byte_is_done_once_or_not_at_all(acme: Team, admin: SecretValue):
    cut_at_any_byte(acme, admin, 97)


@pytest.mark.soak
def test_a_change_that_is_cut_at_each_byte_is_done_once_or_not_at_all(acme: Team, admin: SecretValue):
    cut_at_any_byte(acme, admin, 1)


@pytest.mark.parametrize("trick", [Trick(double=True), Trick(delay=0.05), Trick(double=True, delay=0.02)])
def test_what_is_doubled_or_delayed_is_done_once(acme: Team, admin: SecretValue, trick: Trick):
    with Proxy(acme.api.port, (trick,)) as proxy, closing(Remote(proxy.url, admin, patience=QUICK)) as backend:
        scene = scene_of(backend, acme)
        scene.deploy(shop="a1", auth="b1")
        scene.vars("staging", shop={"X": 1})
        scene.promote("staging", "production")
        scene.rollback("staging")
    assert numbers(acme, "shop/staging") == [3, 2, 1]
    assert numbers(acme, "shop/production") == [1]
    assert acme.store.verify().problems == ()


def large(count: int, size: int = 300_000) -> Bundle:
    return Bundle({"worker.py": "w"} | {f"data/{n}.txt": f"{n}" * (size // len(str(n))) for n in range(count)})


@pytest.mark.parametrize("trick", [Trick(up=50_000), Trick(up=900_000), Trick(down=10), Trick(down=200)])
def test_an_upload_that_is_cut_goes_on_with_what_is_missing(acme: Team, admin: SecretValue, trick: Trick):
    made = large(10)
    with Proxy(acme.api.port) as proxy:
        proxy.next(trick, trick)
        with closing(Remote(proxy.url, admin, patience=QUICK)) as backend:
            backend.upload(made)
            assert backend.missing([file.blob for file in made.manifest.files]) == frozenset()
            assert backend.upload(made).blobs == 0
    assert acme.store.manifest(made.digest) == made.manifest
    assert acme.store.verify().problems == ()


def test_only_what_is_missing_travels(acme: Team, admin: SecretValue):
    made = large(20)
    changed = large(19)
    with Proxy(acme.api.port) as proxy, closing(Remote(proxy.url, admin)) as backend:
        backend.upload(changed)
        before = proxy.up
        stored = backend.upload(made)
        assert stored.blobs == 2
        assert 300_000 < proxy.up - before < 330_000


def test_of_an_artifact_that_is_like_another_the_difference_travels(acme: Team, admin: SecretValue):
    texts = {"worker.py": "w"} | {f"data/{n}.txt": f"text {n}" for n in range(500)}
    first = Bundle(texts)
    second = Bundle({path: text for path, text in texts.items() if path != "data/7.txt"} | {"data/8.txt": "new"})
    with Proxy(acme.api.port) as proxy, closing(Remote(proxy.url, admin)) as backend:
        backend.upload(first)
        before = proxy.up
        assert backend.upload(second, base=first.digest).blobs == 2
        assert backend.upload(first, base=first.digest).blobs == 0
        assert proxy.up - before < 5_000 < len(second.content)
        assert backend.has_artifact(second.digest)
        assert not backend.has_artifact(bundle("other").digest)
    assert acme.store.manifest(second.digest) == second.manifest
    assert acme.store.verify().problems == ()


def test_where_the_difference_says_nothing_all_of_it_is_told(acme: Team, admin: SecretValue):
    made = large(3, 1000)
    with closing(Remote(acme.api.url, admin)) as backend:
        assert backend.upload(made, base=bundle("never uploaded").digest).blobs == 5
        again = large(4, 1000)
        assert backend.upload(again, base=again.digest).blobs == 2
    assert acme.store.manifest(again.digest) == again.manifest


def test_a_large_upload_travels_in_batches(acme: Team, admin: SecretValue):
    told: list[int] = []

    class Progress:
        def start(self, what: str, total: int | None = None) -> None:
            assert what == "uploading"
            told.append(-(total or 0))

        def advance(self, by: int) -> None:
            told.append(by)

        def done(self) -> None:
            pass

    made = large(7, 10_000_000)
    with closing(Remote(acme.api.url, admin)) as backend:
        backend.upload(made, Progress())
    assert -told[0] == sum(file.size for file in made.manifest.files)
    assert 0 <= sum(told) < 1000  # heads of frames
    posted = [line for line in acme.api.log if line["path"] == "/v1/blobs"]
    assert len(posted) == 3


def test_a_large_file_that_is_cut_on_its_way_up_goes_on_with_the_part_it_was_at(acme: Team, admin: SecretValue):
    """By another process too: what arrived is in the store."""
    made = Bundle({"worker.py": "w", "large.bin": "".join(f"{n:09}\n" for n in range(3_500_000))})
    with Proxy(acme.api.port) as proxy:
        proxy.next(Trick(up=20_000_000))
        with closing(Remote(proxy.url, admin, patience=ONCE)) as backend, pytest.raises(Unreachable):
            backend.upload(made)
        with closing(Remote(proxy.url, admin, patience=ONCE)) as backend:
            assert backend.upload(made).blobs == 2
        assert proxy.up < 42_000_000
    blob = max(made.manifest.files, key=lambda file: file.size).blob
    with closing(acme.store.open_blob(blob)) as stream:
        assert stream.read() == made.open(blob).read()
    assert acme.store.verify().problems == ()


def test_a_blob_that_is_cut_on_its_way_goes_on_where_it_was(acme: Team, admin: SecretValue):
    made = large(1, 20_000_000)
    blob = max(made.manifest.files, key=lambda file: file.size).blob
    acme.store.upload(made)
    with Proxy(acme.api.port) as proxy:
        proxy.next(Trick(down=8_000_000), Trick(down=8_000_000))
        with closing(Remote(proxy.url, admin, patience=QUICK)) as backend, closing(backend.open_blob(blob)) as stream:
            assert stream.read() == made.open(blob).read()
        assert proxy.down < 20_500_000


@pytest.mark.parametrize("trick", [Trick(up=200), Trick(down=50)])
def test_reads_that_are_cut_are_read_again(acme: Team, admin: SecretValue, trick: Trick):
    acme.scene.deploy(shop="a1", auth="b1")
    with Proxy(acme.api.port) as proxy:
        proxy.next(trick, trick)
        with closing(Remote(proxy.url, admin, patience=QUICK)) as backend:
            page = backend.history("acme", filter=Filter(), limit=10)
    assert page == acme.store.history("acme", filter=Filter(), limit=10)


def test_an_artifact_of_many_files_comes_in_few_answers(acme: Team, admin: SecretValue):
    texts = {f"d/{n}.txt": str(n) for n in range(3000)} | {f"e/{n}/__init__.py": "" for n in range(50)}
    made = Bundle({"worker.py": "w"} | texts | {"big": "x" * 2_000_000})
    acme.store.upload(made)
    with closing(Remote(acme.api.url, admin)) as backend:
        manifest = backend.manifest(made.digest)
        opened = backend.opening(manifest)
        for file in manifest.files:
            with closing(opened(file.blob)) as stream:
                assert stream.read() == made.open(file.blob).read()
    asked = [line["path"] for line in acme.api.log]
    assert asked.count("/v1/blobs/several") == 2
    assert len(asked) == 4


@pytest.mark.parametrize("new", [b"a1!", b"a", b""])
def test_small_blobs_that_come_together_are_held_to_their_names(liar: tuple[Scene, Liar], new: bytes):
    scene, transport = liar
    scene.deploy(shop="a1", auth="b1")
    code = scene.version("shop/staging").code
    assert code
    manifest = scene.backend.manifest(code.digest)
    transport.lie = lambda _, content: content.replace(b"a1", new)
    with pytest.raises((Damage, Unreachable)):
        scene.backend.opening(manifest)(manifest.files[0].blob)


# ---- KV


def test_kv_over_the_api(acme: Team):
    acme.scene.write_file(
        'project = "acme"\n[services.shop]\nmain = "shop/worker.py"\nbindings.CARTS = { kv = "carts" }\n'
    )
    acme.scene.deploy("production", shop="a1")
    runtime = SecretValue(acme.secret("node", "runtime"))
    name = acme.store.namespaces("shop", "production")["CARTS"]
    with closing(Remote(acme.api.url, runtime)) as backend:
        values = backend.keyvalues
        assert not values.near
        assert values.get(name, "k", 0) is None
        values.put(name, "k ü/?#%", b"\x00\xff", '{"a":"ü"}', 1 << 40)
        assert values.get(name, "k ü/?#%", 0) == Entry(b"\x00\xff", '{"a":"ü"}', 1 << 40)
        values.put_all(name, [(f"n{n}", Entry(b"x" * 100)) for n in range(5)])
        with pytest.raises(Larger):
            values.get(name, "n0", 0, most=99)
        values.put(name, "long", b"l" * 3_000_000, None, None)
        assert values.get(name, "long") == Entry(b"l" * 3_000_000)
        page = values.list(name, "n", 2, None, 0)
        assert [key.name for key in page.keys] == ["n0", "n1"]
        assert [key.name for key in values.list(name, "n", 9, page.cursor, 0).keys] == ["n2", "n3", "n4"]
        values.delete(name, "n0")
        assert values.get(name, "n0", 0) is None
        with pytest.raises(KVError, match="Invalid cursor"):
            values.list(name, "n", 2, "?", 0)
        with pytest.raises(NotFound):
            values.get("no.0.such", "k", 0)

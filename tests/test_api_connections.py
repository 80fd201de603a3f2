"""Limits of the API's connections: who sends slowly, or without end, does not keep others from being answered."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from apis import Served
from scene import Bundle

from svcctl import commands, tokens
from svcctl.backend.store import Store
from svcctl.cli.apiconnections import Limits
from svcctl.model import Grant

PATIENCE = 20
ASKED = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Serve:
    """APIs on one store, each with two threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begun: list[Served] = []
        Store.open(folder).close()

    def __call__(self, limits: Limits) -> Served:
        self._begun.append(Served(lambda: Store.open(self.folder), threads=2, limits=limits))
        return self._begun[-1]

    def close(self) -> None:
        for each in self._begun:
            each.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with closing(Serve(tmp_path / "store")) as serve:
        yield serve


def connected(api: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=PATIENCE)


def until_closed(sock: socket.socket) -> bytes:
    found = b""
    try:
        while part := sock.recv(65536):
            found += part
    except ConnectionResetError:  # what it sent last was not read
        pass
    return found


def answer(sock: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b"}"):
        part = sock.recv(65536)
        assert part, found
        found += part
    return found


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(serve: Serve) -> None:
    api = serve(Limits(head=0.5))
    with closing(connected(api)) as slow:
        slow.settimeout(0.02)
        for byte in ASKED[:-1] * 100:
            try:
                slow.sendall(bytes([byte]))
                if slow.recv(12) == b"HTTP/1.1 408":
                    break
            except TimeoutError:
                continue
        else:
            pytest.fail("it was waited for")
        slow.settimeout(PATIENCE)
        until_closed(slow)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: loc", b"\r\n", b"P"])
def test_half_a_head_ends_its_connection(serve: Serve, first: bytes) -> None:
    with closing(connected(serve(Limits(head=0.05)))) as begun:
        begun.sendall(first)
        assert until_closed(begun).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: loc", b"P"])
def test_so_does_half_a_head_behind_a_whole_one(serve: Serve, first: bytes) -> None:
    with closing(connected(serve(Limits(head=0.05)))) as used:
        used.sendall(ASKED)
        assert answer(used).startswith(b"HTTP/1.1 200 ")
        used.sendall(ASKED + first)
        assert b"HTTP/1.1 408 " in until_closed(used).partition(b"}")[2]


def test_a_connection_on_which_nothing_is_asked_ends(serve: Serve) -> None:
    with closing(connected(serve(Limits(idle=0.05)))) as silent:
        assert until_closed(silent) == b""


def test_a_head_without_end_is_refused(serve: Serve) -> None:
    with closing(connected(serve(Limits(size=10_000)))) as endless:
        endless.sendall(ASKED[:-2])
        try:
            for number in range(10_000):
                endless.sendall(b"X-%d: %b\r\n" % (number, b"x" * 1000))
        except (BrokenPipeError, ConnectionResetError):
            return
        assert until_closed(endless).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_nobody_reads_is_not_waited_for(serve: Serve) -> None:
    with closing(connected(serve(Limits(head=0.05)))) as refused:
        refused.sendall(b"POST /health/live HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 100\r\n\r\nhalf")
        assert answer(refused).startswith(b"HTTP/1.1 421 ")
        refused.sendall(b"more")
        until_closed(refused)


def test_clients_that_take_nothing_of_their_answers_do_not_keep_others_waiting(serve: Serve) -> None:
    made = Bundle({"worker.py": "w", "large.bin": "x" * 20_000_000})
    secret = tokens.new()
    api = serve(Limits(taken=0.1))
    with closing(Store.open(serve.folder)) as store:
        store.upload(made)
        grant = Grant(name="node", role="runtime")
        store.apply(commands.CreateToken(id=commands.new_id(), grant=grant, hash=tokens.hash_of(secret)))
    asked = f"GET /v1/blobs/{made.manifest.files[0].blob} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    with ExitStack() as stack:
        greedy = [stack.enter_context(closing(connected(api))) for _ in range(3)]  # there are two threads
        for each in greedy:
            each.sendall(asked.encode() + b"Authorization: Bearer " + secret.reveal() + b"\r\n\r\n")
        other = stack.enter_context(closing(connected(api)))
        other.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(other).startswith(b"HTTP/1.1 200 ")
        assert sorted(len(until_closed(each)) for each in greedy)[1] < 20_000_000


def test_connections_that_are_too_many_are_told_to_come_again(serve: Serve) -> None:
    api = serve(Limits(connections=2))
    with closing(connected(api)) as one, closing(connected(api)) as two:
        for each in (one, two):
            each.sendall(ASKED)
            assert answer(each).startswith(b"HTTP/1.1 200 ")
        with closing(connected(api)) as three:
            assert until_closed(three).startswith(b"HTTP/1.1 503 ")
        one.sendall(ASKED)
        assert answer(one).startswith(b"HTTP/1.1 200 ")
        one.close()
        two.sendall(ASKED)
        assert answer(two).startswith(b"HTTP/1.1 200 ")

"""Frames and descriptors between processes, over real sockets, cut where it hurts."""

import array
import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from svcctl.dataplane.channel import Channel, Frame, FrameReader, Garbled, Kind, pack
from svcctl.dataplane.goodbyes import Goodbyes
from svcctl.dataplane.resting import CRASH, START, Rest


class End:
    """One end of a channel, and what it heard."""

    def __init__(self, sock: socket.socket, *, limit: int = 1 << 32) -> None:
        self.heard: asyncio.Queue[Frame] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.channel = Channel(sock, asyncio.get_running_loop(), self._hear, self.closed.set, limit=limit)

    def _hear(self, kind: Kind, payload: bytes, descriptor: int | None) -> None:
        if kind is Kind.FAILED:
            raise Garbled("not to be said")
        self.heard.put_nowait((kind, payload, descriptor))


@asynccontextmanager
async def ends(*, limit: int = 1 << 32) -> AsyncIterator[tuple[End, End]]:
    one, other = socket.socketpair()
    first, second = End(one), End(other, limit=limit)
    yield first, second
    first.channel.close()
    second.channel.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())  # type: ignore[arg-type]


def test_frames_and_descriptors_arrive_in_order_whatever_their_size(tmp_path: Path):
    async def scenario() -> None:
        async with ends() as (one, other):
            for number in range(300):
                path = tmp_path / str(number)
                path.write_text(str(number))
                one.channel.send(Kind.CONNECTION, bytes(number * 100), os.open(path, os.O_RDONLY))
                one.channel.send(Kind.PING)
            for number in range(300):
                kind, payload, descriptor = await other.heard.get()
                assert (kind, len(payload)) == (Kind.CONNECTION, number * 100)
                assert descriptor is not None
                assert os.read(descriptor, 10) == str(number).encode()
                os.close(descriptor)
                assert await other.heard.get() == (Kind.PING, b"", None)
            assert one.channel.waiting == 0

    run(scenario)


def test_a_descriptor_is_the_other_sides_unless_it_is_kept(tmp_path: Path):
    async def scenario() -> None:
        async with ends() as (one, other):
            given, kept = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
            one.channel.send(Kind.CONNECTION, b"", given)
            one.channel.send(Kind.CONNECTION, b"", kept, keep=True)
            for _ in range(2):
                _, _, descriptor = await other.heard.get()
                assert descriptor is not None
                os.close(descriptor)
            os.close(kept)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(given)

    run(scenario)


def test_after_the_other_sides_end_what_is_sent_is_dropped_and_closed(tmp_path: Path):
    async def scenario() -> None:
        async with ends() as (one, other):
            one.channel.send(Kind.PING)
            one.channel.close()
            await other.closed.wait()
            assert other.heard.get_nowait()[0] is Kind.PING, "what was said before the end is heard"
            descriptor = os.open(tmp_path, os.O_RDONLY)
            other.channel.send(Kind.CONNECTION, b"", descriptor)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

    run(scenario)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0\0\0\0\xff\0",  # no such kind
        b"\xff\xff\xff\xff\x05\0",  # too long
        b"\0\0\0\0\x03\x01",  # a descriptor that did not come
        pack(Kind.FAILED, b"what the receiver does not take"),
    ],
)
def test_who_talks_nonsense_is_not_listened_to(nonsense: bytes):
    async def scenario() -> None:
        one, other = socket.socketpair()
        end = End(other, limit=1_000)
        with one:
            one.sendall(pack(Kind.PING, b"") + nonsense + pack(Kind.PONG, b""))
            await end.closed.wait()
            assert end.channel.nonsense
            assert one.recv(1) == b""
        assert [end.heard.get_nowait()[0] for _ in range(end.heard.qsize())] in ([], [Kind.PING])

    run(scenario)


def test_a_descriptor_that_there_is_no_room_for_takes_no_others_place():
    one, other = socket.socketpair()
    reader = FrameReader()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with one, other, socket.socket() as first, socket.socket() as second:
        for sent in (first, second):
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sent.fileno()]))
            one.sendmsg([pack(Kind.CONNECTION, b"", brings=True)], [rights])
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            assert reader.read(other) == [(Kind.CONNECTION, b"", None)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        ((_, _, descriptor),) = reader.read(other) or []
        assert descriptor is not None
        assert os.fstat(descriptor).st_ino == os.fstat(second.fileno()).st_ino
        os.close(descriptor)


def test_a_last_answer_is_read_though_much_was_left_unread():
    async def scenario() -> None:
        goodbyes = Goodbyes(asyncio.get_running_loop(), 1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            reader, writer = await asyncio.open_connection(*server.getsockname())
            goodbyes.say(server.accept()[0].detach(), b"goodbye")
            writer.write(bytes(5_000_000))
            assert await reader.read() == b"goodbye"
            writer.close()
        goodbyes.close()

    run(scenario)


def test_failures_in_a_row_are_left_alone_for_longer_each_time():
    rest = Rest()
    pauses = []
    for _ in range(len(START) + 3):
        rest.begin(0.0, START)
        pauses.append(rest.left(0.0))
    assert pauses == [*START, *START[-1:] * 3]
    assert rest.gives_up
    assert rest.left(START[-1]) == 0
    rest.begin(0.0, CRASH)
    assert rest.left(0.0) == CRASH[-1], "who answers is never left alone for long"
    rest.end()
    assert (rest.left(0.0), rest.gives_up) == (0, False)

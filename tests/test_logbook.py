"""The log on disk: out of pipes, into files that rotate, and back, whatever dies or fills up meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl.dataplane.logbook import Decoder, Logbook, LogFilter, LogRecord, any_logged, read
from svcctl.runtime.logpipe import pieces
from svcctl.runtime.records import Level, stamp

ROOT = Path(__file__).parent.parent
WRITER = """
import os, resource, sys
from pathlib import Path
from svcctl.dataplane.logbook import Logbook, LogRecord
def record(message, **more):
    return LogRecord(at="2026-11-23T11:12:39.123Z", level="info", source="stdout", message=message, **more)
folder = Path(sys.argv[1])
"""


def record(message: str, at: str = "2026-11-23T11:12:39.123Z", level: Level = "info", **more) -> LogRecord:
    return LogRecord(at=at, level=level, source="stdout", message=message, **more)


def messages(records: Iterator[LogRecord] | list[LogRecord]) -> list[str]:
    return [each.message for each in records]


def writer(folder: Path, body: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER + body, str(folder)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


# ---- out of a pipe


def frame(message: str, **more) -> bytes:
    return b"".join(
        pieces(json.dumps({"at": "x", "level": "info", "source": "log", "message": message} | more).encode())
    )


STREAM = (
    b"raw one\r\nraw "
    + frame("framed", service="shop", environment="production", version=12)
    + "two é\n".encode()
    + frame("long " * 4000, service="shop", environment="production", version=12)
    + b'\x1e[[1795432359.1235,"r1","GET","shop.example.com","/cart",200,1.5],[1795432359.2,"r2","PUT","h","/",503,2]]\n'
    + b"\x1enonsense\n\n\xff\x1b[31m"
)
FOUND = [
    ("stderr", "warning", "raw one"),
    ("log", "info", "framed"),
    ("stderr", "warning", "raw two é"),
    ("log", "info", "long " * 4000),
    ("request", "info", "GET shop.example.com/cart 200 1.5 ms"),
    ("request", "error", "PUT h/ 503 2.0 ms"),
    ("stderr", "warning", "nonsense"),
    ("stderr", "warning", ""),
    ("stderr", "warning", "\\xff\x1b[31m"),
]


@given(st.lists(st.integers(1, 5000), max_size=20), st.sampled_from([1, 7, 65536]))
def test_a_stream_cut_anywhere_is_the_same_records(sizes: list[int], last: int) -> None:
    decoder = Decoder("shop/production", 12)
    found: list[LogRecord] = []
    rest = STREAM
    while rest:
        size = sizes.pop() if sizes else last
        found += decoder.feed(rest[:size])
        rest = rest[size:]
    found += decoder.end()
    assert [(each.source, each.level, each.text) for each in found] == FOUND
    assert {each.ref for each in found} == {"shop/production@12"}
    assert found[4].at == "2026-11-23T11:12:39.123Z"


@given(st.binary(max_size=300))
def test_whatever_comes_out_of_a_pipe_is_decoded_to_records_that_can_be_written(noise: bytes) -> None:
    decoder = Decoder("shop/production", 12)
    found = decoder.feed(noise + b"\n" + frame("whole")) + decoder.end()
    assert found[-1].message == "whole"
    for each in found:
        json.dumps(each.message).encode()


def test_a_handler_speaks_for_no_other_deployment() -> None:
    decoder = Decoder("shop/staging", 3, {"auth/staging@7"})
    forged = frame("all is well", service="shop", environment="production", version=12)
    (mine,) = decoder.feed(frame("mine", service="auth", environment="staging", version=7))
    (own,) = decoder.feed(frame("own", service="shop", environment="staging", version=3))
    (other,) = decoder.feed(forged)
    assert (mine.ref, own.ref) == ("auth/staging@7", "shop/staging@3")
    assert (other.ref, other.source) == ("shop/staging@3", "stderr")
    assert other.message == forged[1:-1].decode()


def test_a_raw_line_without_an_end_is_bounded() -> None:
    decoder = Decoder("shop/production", 0)
    for _ in range(100):
        assert decoder.feed(b"x" * 10_000) == []
    (found,) = decoder.feed(b"\n")
    assert found.message == "x" * 65536 + " … (cut: 934,464 more characters)"
    assert found.ref == "shop/production"


def test_pieces_without_a_last_one_take_no_memory_for_ever() -> None:
    decoder = Decoder("shop/production", 12)
    for _ in range(1000):
        decoder.feed(b"\x1e+" + b"x" * 4000 + b"\n")
    assert len(decoder._pieces) < 1 << 20
    assert messages(decoder.feed(b"\x1e.}\n" + frame("next")))[-1] == "next"


# ---- files


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    assert not any_logged(folder)
    assert list(read(folder)) == []
    book = Logbook(folder)
    assert not folder.exists()
    book.append([record("one", request="r1", service="shop", environment="staging", version=3), record("zwei ü\n\x1b")])
    book.append([])
    book.event("warning", "the store can't be reached", "shop/staging", 3)
    one, two, event = read(folder)
    assert (one.message, one.ref, one.request) == ("one", "shop/staging@3", "r1")
    assert (two.message, two.ref, two.place) == ("zwei ü\n\x1b", "", "")
    assert (event.source, event.level, event.ref) == ("system", "warning", "shop/staging@3")
    assert any_logged(folder)
    (file,) = folder.iterdir()
    assert file.name == "00000001.jsonl"
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    book.close()


def test_files_rotate_and_the_oldest_go(tmp_path: Path) -> None:
    book = Logbook(tmp_path, size=1000, files=3)
    for number in range(100):
        book.append([record(str(number))])
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert files[-1].name > "00000007.jsonl"
    assert all(file.stat().st_size < 1200 for file in files)
    kept = messages(read(tmp_path))
    assert kept == [str(number) for number in range(100 - len(kept), 100)]
    assert len(kept) > 20
    assert messages(read(tmp_path, last=5)) == ["95", "96", "97", "98", "99"]
    assert messages(read(tmp_path, last=0)) == []
    assert messages(read(tmp_path, last=1000)) == kept
    book.close()


def test_a_new_writer_goes_on_in_the_newest_file(tmp_path: Path) -> None:
    for number in range(30):
        book = Logbook(tmp_path, size=1000)
        book.append([record(str(number))])
        book.close()
    assert messages(read(tmp_path)) == [str(number) for number in range(30)]
    assert 1 < len(list(tmp_path.iterdir())) < 6


def test_a_folder_removed_under_a_writer_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    book = Logbook(folder)
    book.append([record("one")])
    shutil.rmtree(folder)
    book.append([record("two")])
    assert messages(read(folder)) == ["two"]
    book.close()


def test_other_files_in_the_folder_are_nobody_s_log(tmp_path: Path) -> None:
    for name in ("notes.txt", "old.jsonl", "²", "²²²²²²²²x.jsonl"):
        (tmp_path / name).write_text("mine\n")
    book = Logbook(tmp_path, size=10, files=1)
    for _ in range(5):
        book.append([record("one")])
    assert len(list(tmp_path.iterdir())) == 5
    assert (tmp_path / "old.jsonl").read_text() == "mine\n"
    book.close()


# ---- what goes wrong


def test_t18_a_full_disk_loses_records_says_how_many_and_raises_nothing(tmp_path: Path) -> None:
    process = writer(
        tmp_path,
        """
book = Logbook(folder)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
book.append([record("before")])
size = next(folder.iterdir()).stat().st_size
for room in range(size, size * 4, 7):  # so that lines are torn at many places
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    for number in range(5):
        book.append([record(f"{room}.{number}.{part}") for part in "ab"])
assert book.lost, "the disk was never full"
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
book.append([record("after")])
assert book.lost == 0
print(len(range(size, size * 4, 7)) * 10)
""",
    )
    out, _ = process.communicate()
    assert process.returncode == 0
    before, *kept, loss, after = list(read(tmp_path))
    assert (before.message, after.message) == ("before", "after")
    told = [each for each in (*kept, loss) if each.source == "system"]
    lost = sum(int(each.message.split()[0].replace(",", "")) for each in told)
    assert len(kept) + 1 - len(told) + lost == int(out)
    assert loss.message == f"{loss.message.split()[0]} log records were lost here: File too large"


def test_a_writer_killed_in_the_middle_of_a_line_spoils_that_line_alone(tmp_path: Path) -> None:
    process = writer(
        tmp_path,
        """
import signal
book = Logbook(folder)
book.append([record("whole")])
size = next(folder.iterdir()).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, size + 30))
book.append([record("torn")])
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (file,) = tmp_path.iterdir()
    assert not file.read_bytes().endswith(b"\n")
    assert messages(read(tmp_path)) == ["whole"]
    follow = read(tmp_path, follow=True)
    assert next(follow).message == "whole"
    book = Logbook(tmp_path)
    book.append([record("next")])
    assert next(follow).message == "next"
    assert messages(read(tmp_path)) == ["whole", "next"]
    follow.close()
    book.close()


def test_of_a_writer_killed_at_any_time_every_line_it_told_of_is_there(tmp_path: Path) -> None:
    process = writer(
        tmp_path,
        """
book = Logbook(folder, size=20_000, files=1000)
number = 0
while True:
    book.append([record(f"{number} " + "x" * 200)])
    print(number, flush=True)
    number += 1
""",
    )
    assert process.stdout
    told = [process.stdout.readline() for _ in range(300)]
    process.kill()
    told += process.stdout.readlines()
    process.communicate()
    numbers = [int(message.split()[0]) for message in messages(read(tmp_path))]
    assert numbers[: len(told)] == list(range(len(told)))
    assert len(told) <= len(numbers) <= len(told) + 1


def test_two_writers_mix_no_lines(tmp_path: Path) -> None:
    body = """
book = Logbook(folder, size=50_000, files=1000)
sys.stdin.readline()
for number in range(500):
    book.append([record(f"{sys.argv[1]} " + "x" * 200, request=f"{os.getpid()}-{number}")])
assert book.lost == 0
"""
    processes = [writer(tmp_path, body) for _ in range(2)]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    requests = [each.request or "" for each in read(tmp_path)]
    assert len(requests) == 1000
    for process in processes:
        own = [int(request.split("-")[1]) for request in requests if request.startswith(f"{process.pid}-")]
        assert sorted(own) == list(range(500))


def test_where_there_can_be_no_folder_records_are_lost_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    book = Logbook(tmp_path / "file" / "logs")
    book.append([record("one"), record("two")])
    assert book.lost == 2
    (tmp_path / "file").unlink()
    book.append([record("three")])
    assert messages(read(tmp_path / "file" / "logs")) == ["2 log records were lost here: Not a directory", "three"]
    book.close()


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    book = Logbook(tmp_path)
    book.append([record("one")])
    with (tmp_path / "00000001.jsonl").open("ab") as file:
        file.write(b'\n{"at":1}\n\xff\xfe\n\0\0\0\n[]\n{"at":"x","level":"loud","source":"log"}\n')
    book.append([record("two")])
    assert messages(read(tmp_path)) == ["one", "two"]
    book.close()


# ---- following


def test_following_goes_on_across_rotation_emptying_and_deletion(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    book = Logbook(folder, size=400, files=2)
    follow = read(folder, follow=True)
    later = threading.Timer(0.15, lambda: book.append([record("first")]))
    later.start()
    assert next(follow).message == "first", "it waited for the folder"
    later.join()
    for number in range(6):
        book.append([record(f"{number}.{part}") for part in range(3)])
        assert [next(follow).message for _ in range(3)] == [f"{number}.{part}" for part in range(3)]
    assert not (folder / "00000001.jsonl").exists()
    newest = max(folder.iterdir())
    os.truncate(newest, 0)
    book.append([record("emptied")])
    assert next(follow).message == "emptied"
    shutil.rmtree(folder)
    book.append([record("deleted")])
    assert next(follow).message == "deleted"
    follow.close()
    book.close()


def test_following_misses_nothing_of_a_writer_that_rotates_all_the_time(tmp_path: Path) -> None:
    process = writer(
        tmp_path,
        """
book = Logbook(folder, size=2_000, files=10_000)
for number in range(3000):
    book.append([record(str(number))])
""",
    )
    follow = read(tmp_path, follow=True)
    assert [next(follow).message for _ in range(3000)] == [str(number) for number in range(3000)]
    process.communicate()
    follow.close()


def test_following_shows_half_a_line_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "00000001.jsonl"
    line = b'{"at":"2026-11-23T11:12:39.123Z","level":"info","source":"log","message":"caf\xc3\xa9"}\n'
    file.write_bytes(line + line[:-5])
    follow = read(tmp_path, follow=True)
    assert next(follow).message == "café"

    def finish() -> None:
        with file.open("ab") as writing:
            writing.write(line[-5:])

    later = threading.Timer(0.15, finish)
    later.start()
    assert next(follow).message == "café"
    later.join()
    follow.close()


def test_following_begins_with_the_newest(tmp_path: Path) -> None:
    book = Logbook(tmp_path, size=400)
    for number in range(20):
        book.append([record(str(number))])
    follow = read(tmp_path, follow=True, last=3)
    assert [next(follow).message for _ in range(3)] == ["17", "18", "19"]
    book.append([record("20")])
    assert next(follow).message == "20"
    follow.close()
    book.close()


# ---- filters


def test_filters(tmp_path: Path) -> None:
    book = Logbook(tmp_path)
    shop = {"service": "shop", "environment": "staging"}
    book.append(
        [
            record("a", "2026-11-23T10:00:00.000Z", "debug", **shop, version=1, request="a1b2c3d4000001"),
            record("b", "2026-11-23T11:00:00.000Z", "warning", **shop, version=2, request="a1b2c3d4000002"),
            record("c", "2026-11-23T12:00:00.000Z", "error", service="auth", environment="staging", version=2),
            record("d", "2026-11-23T13:00:00.000Z", "info"),
        ]
    )
    book.close()

    def found(**filter) -> str:
        return "".join(messages(read(tmp_path, LogFilter(**filter))))

    assert found() == "abcd"
    assert found(services=("shop",)) == "ab"
    assert found(services=("shop", "")) == "abd"
    assert found(environment="staging") == "abc"
    assert found(versions={"shop": 1, "auth": 2}) == "ac"
    assert found(since="2026-11-23T11:00:00.000Z") == "bcd"
    assert found(level="warning") == "bc"
    assert found(request="a1b2c3d4000001") == "a"
    assert found(request="a1b2") == "ab"
    assert found(request="0002") == "b"
    assert found(request="2") == ""
    assert found(services=("shop",), level="info", environment="staging") == "b"


@pytest.mark.parametrize(
    ("seconds", "at"), [(0, "1970-01-01T00:00:00.000Z"), (1795432359.9999, "2026-11-23T11:12:39.999Z")]
)
def test_times(seconds: float, at: str) -> None:
    assert stamp(seconds) == at

"""What handlers say, out of a real process through a real pipe."""

import base64
import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from svcctl.dataplane.logbook import Decoder, LogRecord
from svcctl.runtime.redaction import Redaction

BEFORE = """
import asyncio, ctypes, gc, logging, os, subprocess, sys, threading, warnings
from svcctl.runtime import capture
from svcctl.runtime.assembly import Part
from svcctl.runtime.invocation import Invocation, Outer, current

shop = Part(place="shop/production", version=12, folder="/", main="worker.py")
auth = Part(place="auth/production", version=3, folder="/", main="worker.py")

def scope(path="/cart?token=1", host=b"shop.example.com"):
    raw = path.partition("?")[0].encode()
    return {"method": "GET", "path": path, "raw_path": raw, "headers": [(b"accept", b"*/*"), (b"host", host)]}

async def ask(question):  # the test answers when it has seen enough
    os.write(ASKS, question)
    return await asyncio.to_thread(os.read, ANSWERS, 1)

async def main():
    capture.install(1, shop)
"""
AFTER = """
    capture.end()

asyncio.run(main())
"""


class Worker:
    """A process that runs `body` in an event loop, with what it says captured; `pipe` is the router's end."""

    def __init__(self, body: str) -> None:
        self.pipe, output = os.pipe()
        self._asks, asked = os.pipe()
        answered, self._answers = os.pipe()
        script = (
            f"ASKS, ANSWERS = {asked}, {answered}\n" + BEFORE + textwrap.indent(textwrap.dedent(body), "    ") + AFTER
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=output,
            stderr=output,
            cwd=Path(__file__).parent.parent,
            pass_fds=[asked, answered],
        )
        for each in (output, asked, answered):
            os.close(each)
        self.decoder = Decoder("shop/production", 12)

    def asked(self) -> bytes:
        return os.read(self._asks, 100)

    def answer(self) -> None:
        os.write(self._answers, b"\n")

    def read(self, size: int = 65536) -> list[LogRecord] | None:
        """None at the end."""
        data = os.read(self.pipe, size)
        return self.decoder.feed(data) if data else None

    def rest(self, size: int = 65536) -> list[LogRecord]:
        found: list[LogRecord] = []
        while (more := self.read(size)) is not None:
            found += more
        return found + self.decoder.end()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for each in (self.pipe, self._asks, self._answers):
            os.close(each)


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    made: list[Worker] = []
    yield made
    for worker in made:
        worker.close()


@pytest.fixture
def start(workers: list[Worker]):
    def start(body: str) -> Worker:
        workers.append(Worker(body))
        return workers[-1]

    return start


@pytest.fixture
def said(start):
    """All that a body said, once it ended well."""

    def said(body: str) -> list[LogRecord]:
        worker = start(body)
        found = worker.rest()
        assert worker.process.wait() == 0, [record.text for record in found]
        return found

    return said


def messages(records: list[LogRecord]) -> list[str]:
    return [record.message for record in records]


# ---- printing


def test_a_print_is_a_record_of_the_invocation_at_work(said) -> None:
    first, second, third = said("""
        print("started")
        outer = Outer("r1")
        current.set(Invocation(outer, shop, None))
        print("in", "shop", file=sys.stderr)
        current.set(Invocation(outer, auth, None, current.get()))
        print("in auth")
    """)
    assert (first.ref, first.request, first.source, first.level) == ("shop/production@12", None, "stdout", "info")
    assert (second.ref, second.request, second.source, second.level) == (
        "shop/production@12",
        "r1",
        "stderr",
        "warning",
    )
    assert (third.ref, third.request, third.message) == ("auth/production@3", "r1", "in auth")
    assert first.at <= second.at <= third.at
    assert first.at.endswith("Z")


def test_one_print_of_several_lines_is_one_record(said) -> None:
    assert messages(said("print('a\\nb'); print(); print('c\\n\\td'); sys.stdout.write('e\\n\\n')")) == [
        "a\nb",
        "",
        "c\n\td",
        "e\n",
    ]


def test_unfinished_lines_are_kept_apart_until_their_request_ends(said) -> None:
    records = said("""
        async def handle(outer, part, turn):
            current.set(Invocation(outer, part, None))
            print(part.service, end=" ")
            await asyncio.sleep(0)
            current.set(Invocation(outer, auth, None, current.get()))
            print("called by", part.service, end="")
        one, two = Outer("r1"), Outer("r2")
        await asyncio.gather(handle(one, shop, 1), handle(two, auth, 2))
        thread = threading.Thread(target=lambda: print("a thread's", end=""))
        thread.start()
        thread.join()
        print("two by two", end="")
        print(", done")
        capture.flush(two)
        capture.flush(one)
        capture.flush(one)
    """)
    assert [(record.request, record.ref, record.message) for record in records] == [
        (None, "shop/production@12", "two by two, done"),
        ("r2", "auth/production@3", "auth "),
        ("r2", "auth/production@3", "called by auth"),
        ("r1", "shop/production@12", "shop "),
        ("r1", "auth/production@3", "called by shop"),
        (None, "shop/production@12", "a thread's"),
    ]


def test_unfinished_lines_of_those_who_never_end_are_not_kept_for_ever(said) -> None:
    records = said("""
        for number in range(1100):
            current.set(Invocation(Outer(f"r{number}"), shop, None))
            print(number, end="")
        os.write(ASKS, b"x")
        os._exit(0)
    """)
    assert messages(records) == [str(number) for number in range(100)]


def test_a_line_beyond_the_bound_is_cut_and_says_so(said) -> None:
    in_one, in_pieces = said("""
        print("x" * 100_000)
        for _ in range(1000):
            print("y" * 100, end="")
        print()
    """)
    assert in_one.message == "x" * 65536 + " … (cut: 34,464 more characters)"
    assert in_pieces.message == "y" * 65536 + " … (cut: 34,464 more characters)"


def test_many_lines_in_one_print_are_rather_many_records_than_one_cut_short(said) -> None:
    """Longer than a record may be, and no more than the log holds while nobody reads it."""
    assert messages(said("print('\\n'.join(f'{number:050}' for number in range(2_000)))")) == [
        f"{number:050}" for number in range(2_000)
    ]


def test_sys_stdout_is_a_stream_that_libraries_know_what_to_do_with(said) -> None:
    records = said("""
        out = sys.stdout
        assert (out.fileno(), sys.stderr.fileno()) == (1, 2)
        assert not out.isatty() and out.writable() and not out.readable() and out.encoding == "utf-8"
        out.reconfigure(line_buffering=False)
        out.close()
        out.flush()
        assert not out.closed
        out.writelines(["a", "b", "\\n"])
        out.buffer.write(memoryview("caf\\u00e9\\n".encode()))
        print("c", file=sys.__stdout__, flush=True)
        try:
            out.write(b"bytes")
        except TypeError as error:
            print(error)
        assert os.get_blocking(1), "child processes and C code know nothing of pipes that do not block"
        assert threading.active_count() == 1
    """)
    assert messages(records) == ["ab", "café", "c", "write() argument must be str, not bytes"]


@pytest.mark.parametrize(
    "text", ["\x00", "\x1e{}", "\x1b[31mred", "\ud800", "\u202e", "\U0001f600", "\r\n\r", "\x85\u2028"]
)
def test_naughty_strings_come_through_as_they_are(said, text: str) -> None:
    (record,) = said(f"print({text!r} + 'end')")
    assert record.message == text.encode("utf-8", "backslashreplace").decode() + "end"


# ---- logging, warnings, exceptions


def test_logging_and_warnings_are_records_from_info_on(said) -> None:
    records = said("""
        log = logging.getLogger("shop.cart")
        log.debug("no")
        log.info("added %s", "tea")
        logging.warning("at the root")
        log.critical("down")
        try:
            {}["x"]
        except KeyError:
            log.exception("lost")
        warnings.warn("old", FutureWarning)
        log.info("%d", "no number")
        log.setLevel(logging.DEBUG)
        log.debug("yes")
    """)
    assert [(record.source, record.level, record.message.partition("\n")[0]) for record in records[:5]] == [
        ("log", "info", "shop.cart: added tea"),
        ("log", "warning", "at the root"),
        ("log", "error", "shop.cart: down"),
        ("log", "error", "shop.cart: lost"),
        ("log", "warning", records[4].message.partition("\n")[0]),
    ]
    assert records[4].message.startswith("py.warnings: <string>:")
    assert records[4].message.endswith(": FutureWarning: old")
    assert records[3].message.endswith("\nKeyError: 'x'")
    assert any("--- Logging error ---" in record.message for record in records[5:-1])
    assert (records[-1].message, records[-1].level) == ("shop.cart: yes", "debug")


def test_what_nobody_catches_is_a_record(said) -> None:
    records = said("""
        current.set(Invocation(Outer("r1"), shop, None))
        thread = threading.Thread(target=lambda: 1 / 0, name="reckoner")
        thread.start()
        thread.join()
        quiet = threading.Thread(target=sys.exit)
        quiet.start()
        quiet.join()
        class Late:
            def __del__(self):
                raise ValueError("too late")
        Late()
        gc.collect()
        capture.log_exception("Traceback\\nKeyError: 'x'")
        capture.log_event("warning", "a worker wants a successor")
        sys.excepthook(*(lambda error: (type(error), error, None))(OSError("the end")))
    """)
    assert [(record.source, record.level) for record in records] == [
        ("exception", "error"),
        ("exception", "error"),
        ("exception", "error"),
        ("system", "warning"),
        ("exception", "error"),
    ]
    in_thread, unraisable, own, event, last = records
    assert in_thread.message.startswith("in thread reckoner: Traceback")
    assert in_thread.message.endswith("ZeroDivisionError: division by zero")
    assert in_thread.request is None
    assert unraisable.message.endswith("ValueError: too late")
    assert (own.message, own.request) == ("Traceback\nKeyError: 'x'", "r1")
    assert event.message == "a worker wants a successor"
    assert last.message == "OSError: the end"


def test_where_nothing_was_installed_printing_is_left_alone() -> None:
    script = """
from svcctl.runtime import capture
from svcctl.runtime.invocation import Outer
print("plain")
capture.log_exception("Traceback\\nKeyError")
capture.log_event("debug", "not worth it")
capture.log_request({}, 200, 0.1, "r1")
capture.flush(Outer("r1")); capture.flush_requests(); capture.redact(["value"]); capture.end()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("plain\n", "Traceback\nKeyError\n")


# ---- requests


def test_requests_are_handed_on_in_batches_and_before_what_is_said_later(said) -> None:
    records = said("""
        for number in range(70):
            capture.log_request(scope(), 200 if number else 503, 0.00123, f"r{number}")
        print("after 70")
        capture.log_request(scope("/" + "a" * 5000, b"shop"), 200, 1.5, "long")
    """)
    assert [record.request for record in records] == [*(f"r{number}" for number in range(70)), None, "long"]
    first, second, last = records[0], records[1], records[-1]
    assert second.text == "GET shop.example.com/cart 200 1.23 ms"
    assert (first.level, second.level, second.source) == ("error", "info", "request")
    assert (second.ref, second.status, second.ms) == ("shop/production@12", 200, 1.23)
    assert (last.path, last.host) == ("/" + "a" * 999 + "…", "shop")


def test_a_few_requests_are_handed_on_without_waiting_for_more(start) -> None:
    worker = start("""
        capture.log_request(scope(), 200, 0.00123, "r1")
        await ask(b"?")
    """)
    assert [record.request for record in worker.read() or []] == ["r1"]
    worker.answer()
    assert worker.rest() == []


# ---- the pipe


def test_long_records_of_many_threads_and_raw_bytes_do_not_mix(start) -> None:
    worker = start("""
        lines = "for i in $(seq 300); do echo raw $i; done; printf %05000d 7; echo; printf end"
        raw = subprocess.Popen(["sh", "-c", lines])
        def say(letter):
            for number in range(40):
                print(letter * 20_000)
        threads = [threading.Thread(target=say, args=(letter,)) for letter in "abcd"]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or raw.poll() is None:
            await asyncio.sleep(0.01)
    """)
    records = worker.rest(5_000)
    framed = [record.message for record in records if record.source == "stdout"]
    lost = sum(int(record.message.split()[4].replace(",", "")) for record in records if record.source == "system")
    assert len(framed) + lost == 160
    assert {(len(message), len(set(message))) for message in framed} == {(20_000, 1)}
    raw = [record for record in records if record.source == "stderr"]
    assert messages(raw) == [*(f"raw {number}" for number in range(1, 301)), "7".rjust(5000, "0"), "end"]
    assert {(record.ref, record.request) for record in raw} == {("shop/production@12", None)}


def test_a_full_pipe_holds_nobody_up_and_what_is_lost_is_said(start) -> None:
    worker = start("""
        for number in range(3000):
            print(f"{number:01000}")
        await ask(b"said")
        print("afterwards")
    """)
    assert worker.asked() == b"said", "nothing was read so far"
    first: list[LogRecord] = []
    while select.select([worker.pipe], [], [], 0)[0] or not any(record.source == "system" for record in first):
        first += worker.read() or []
    worker.answer()
    *kept, loss, last = first + worker.rest()
    count = len(kept)
    assert count > 500
    assert messages(kept) == [f"{number:01000}" for number in range(count)]
    assert loss.message == f"the log was full: {3000 - count:,} records were lost here"
    assert (loss.source, loss.level, loss.ref) == ("system", "warning", "shop/production@12")
    assert last.message == "afterwards"


def test_what_a_full_pipe_held_back_is_written_when_the_process_ends(start) -> None:
    worker = start("""
        for number in range(300):
            print(f"{number:01000}")
        os.write(ASKS, b"said")
    """)
    assert worker.asked() == b"said"
    assert len(worker.rest()) == 300


def test_without_a_reader_a_worker_goes_on(start) -> None:
    worker = start("""
        await ask(b"?")
        for number in range(3000):
            print(f"{number:01000}")
        os.write(ASKS, b"still here")
    """)
    assert worker.asked() == b"?"
    os.close(worker.pipe)
    worker.pipe = os.open(os.devnull, os.O_RDONLY)
    worker.answer()
    assert worker.asked() == b"still here"
    assert worker.process.wait() == 0


def test_what_was_printed_before_a_process_died_is_there(start) -> None:
    for end in ("os._exit(3)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)"):
        worker = start(f"print('last words'); {end}")
        assert messages(worker.rest())[:1] == ["last words"]


def test_a_child_that_a_handler_forks_says_its_own_things_once(said) -> None:
    records = said("""
        capture.log_request(scope(), 200, 0.00123, "r1")
        print("begun", end="")
        child = os.fork()
        if child == 0:
            print("in the child")
            os._exit(0)
        os.waitpid(child, 0)
        print(" and ended")
    """)
    assert sorted(record.text for record in records) == [
        "GET shop.example.com/cart 200 1.23 ms",
        "begun and ended",
        "in the child",
    ]


def test_a_finalizer_that_prints_wherever_it_likes_locks_nothing(said) -> None:
    records = said("""
        gc.set_threshold(1)
        class Chatty:
            def __init__(self):
                self.self = self
            def __del__(self):
                sys.stdout.write("gone\\n")
        for number in range(100):
            Chatty()
            sys.stdout.write("x" * 5000 + "\\n")
        gc.collect()
    """)
    assert sorted(messages(records)) == ["gone"] * 100 + ["x" * 5000] * 100


# ---- secrets


SECRET = 'pa$$ "wörd"/+?~\t\\'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        repr(SECRET),
        SECRET.encode().hex(),
        quote(SECRET),
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        base64.b64encode(b"user:" + SECRET.encode()).decode(),
        base64.b64encode(b"us:" + SECRET.encode() + b":x").decode(),
    ],
)
def test_a_secret_is_found_in_every_form(form: str) -> None:
    redaction = Redaction()
    redaction.add([SECRET, "another"])
    shown = redaction(f"it is {form}!")
    assert "***" in shown
    assert not any(form[at : at + 12] in shown for at in range(len(form) - 12))


def test_secrets_do_not_leave_the_worker(said) -> None:
    records = said("""
        import json
        key = "-----BEGIN KEY-----\\nMIIEvQIBADANBgkqhkiG9w0B\\nAQEFAASCBKcwggSjAgEAAoIB\\n-----END KEY-----\\n"
        capture.redact(["hunter2-canary", "short", "", key])
        capture.redact(["hunter2-canary-longer"])
        print("the key is hunter2-canary, not short")
        print("hunter2", end="")
        print("-canary-longer")
        print(json.dumps({"key": key}))
        for line in key.splitlines():
            print(line)
        print("x" * 65_530 + "hunter2-canary" + "x" * 100)
        for each in ("x" * 65_530, "hunter2-", "canary", "x" * 100, "\\n"):
            print(each, end="")
        logging.error("hunter2-canary")
        try:
            raise ValueError("hunter2-canary")
        except ValueError:
            logging.exception("no")
        capture.log_request(scope("/reset/hunter2-canary"), 200, 0.1, "r1")
        subprocess.run(["true"], stdout=sys.stdout)
    """)
    everything = "\n".join(record.text for record in records)
    assert "hunter2" not in everything
    assert "MIIEvQ" not in everything
    assert "AQEFAAS" not in everything
    assert records[0].message == "the key is ***, not short"
    assert records[1].message == "***"
    assert records[2].message == '{"key": "***"}'
    assert messages(records[3:7]) == ["-----BEGIN KEY-----", "***", "***", "-----END KEY-----"]
    assert records[-1].path == "/reset/***"

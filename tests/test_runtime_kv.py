"""`env.CARTS` as handlers use it, over a real store."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from svcctl import keyvalues
from svcctl.backend.store.kv import KeyValueStore
from svcctl.backend.store.lock import WriteLock
from svcctl.keyvalues import Entry, KVError, KVTypeError
from svcctl.runtime.assembly import Part
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.kv import AT_ONCE, KVNamespace, KVUnavailable
from svcctl.runtime.limits import TooManySubrequests, Unavailable
from svcctl.runtime.workers.blob import Blob
from svcctl.runtime.workers.stream import ReadableStream


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyValueStore]:
    store = KeyValueStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def carts(store: KeyValueStore) -> KVNamespace:
    return KVNamespace(store, "a.0.carts")


def refusal(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(KVError) as caught:
        asyncio.run(work)
    return str(caught.value)


# ---- reading


def test_a_value_in_each_of_its_types(carts: KVNamespace):
    async def play() -> None:
        await carts.put("k", '{"é": 1}')
        assert await carts.get("k") == '{"é": 1}'
        assert await carts.get("k", "text") == '{"é": 1}'
        assert await carts.get("k", type="json") == {"é": 1}
        assert await carts.get("k", {"type": "json", "cacheTtl": 60}) == {"é": 1}
        assert await carts.get("k", "bytes") == '{"é": 1}'.encode()
        buffer = await carts.get("k", type="arrayBuffer", cacheTtl=60)
        assert buffer.to_bytes() == '{"é": 1}'.encode()
        stream = await carts.get("k", "stream")
        assert isinstance(stream, ReadableStream)
        assert [chunk async for chunk in stream] == ['{"é": 1}'.encode()]

    asyncio.run(play())


@pytest.mark.parametrize("type", ["text", "json", "bytes", "arrayBuffer", "stream"])
def test_what_is_not_there_is_none(type: str, carts: KVNamespace):
    assert asyncio.run(carts.get("k", type)) is None


def test_bytes_that_are_no_utf8_are_read_as_text_all_the_same(carts: KVNamespace):
    async def play() -> None:
        await carts.put("k", b"\xff\x00")
        assert await carts.get("k") == "\ufffd\x00"
        with pytest.raises(json.JSONDecodeError):
            await carts.get("k", "json")

    asyncio.run(play())


def test_a_long_value_is_read_too(carts: KVNamespace):
    async def play() -> None:
        for size in (AT_ONCE, AT_ONCE + 1, 3_000_000):
            await carts.put("k", bytes(size))
            assert len(await carts.get("k", "bytes")) == size
            assert len(await carts.get("k", "bytes")) == size

    asyncio.run(play())


def test_with_metadata(carts: KVNamespace):
    async def play() -> None:
        await carts.put("k", "v", metadata={"tags": ["a"]})
        found = await carts.getWithMetadata("k")
        assert (found.value, found.metadata) == ("v", {"tags": ["a"]})
        assert (found["value"], found["metadata"]["tags"]) == ("v", ["a"])
        await carts.put("k", "2")
        found = await carts.get_with_metadata("k", "json")
        assert (found.value, found.metadata) == (2, None)
        missing = await carts.get_with_metadata("other")
        assert (missing.value, missing.metadata, missing.cacheStatus) == (None, None, None)

    asyncio.run(play())


def test_several_keys_at_once(carts: KVNamespace):
    async def play() -> None:
        await asyncio.gather(carts.put("a", "1"), carts.put("b", "2", metadata="m"))
        assert await carts.get(["a", "nope", "b"]) == {"a": "1", "nope": None, "b": "2"}
        assert await carts.get(["a", "b"], "json") == {"a": 1, "b": 2}
        found = await carts.getWithMetadata(["b", "nope"])
        assert (found["b"].value, found["b"].metadata, found["nope"].value) == ("2", "m", None)

    asyncio.run(play())


def test_several_keys_that_can_not_be_had(carts: KVNamespace):
    async def fill() -> None:
        await carts.put("text", "x")
        for key in ("one", "two"):
            await carts.put(key, bytes(13_200_000))

    asyncio.run(fill())
    assert refusal(carts.get(["text"], "json")) == (
        "KV GET_BULK failed: 400 At least one of the requested keys corresponds to a non-json value"
    )
    assert refusal(carts.get(["one", "two"])) == (
        "KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB"
    )
    assert refusal(carts.get(["text"], "arrayBuffer")) == (
        'KV GET_BULK failed: 400 "arrayBuffer" is not a valid type. Use "json" or "text"'
    )
    assert refusal(carts.get(["k"] * 101)) == "KV GET_BULK failed: 400 You can request a maximum of 100 keys"
    assert refusal(carts.get([])) == "KV GET_BULK failed: 400 You must request a minimum of 1 key"


def test_a_list(carts: KVNamespace):
    async def play() -> None:
        until = int(time.time()) + 1000
        await carts.put("user:1", "", expiration=until, metadata={"n": 1})
        await carts.put("user:2", "")
        await carts.put("visit:1", "")
        page = await carts.list(prefix="user:", limit=1)
        assert (page.keys[0].name, page.keys[0].expiration, page.keys[0].metadata) == ("user:1", until, {"n": 1})
        assert page["keys"][0]["name"] == "user:1"
        assert not page.list_complete
        last = await carts.list({"prefix": "user:", "limit": 1, "cursor": page.cursor})
        assert last == {"keys": [{"name": "user:2"}], "list_complete": True, "cacheStatus": None}
        assert (last.keys[0].expiration, last.keys[0].metadata, last.cursor) == (None, None, None)
        assert [key.name for key in (await carts.list()).keys] == ["user:1", "user:2", "visit:1"]
        assert json.loads(json.dumps(last)) == dict(last)

    asyncio.run(play())


# ---- writing


class Readings:
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    async def _read(self) -> AsyncIterator[Any]:
        yield b"1"
        yield "2"
        yield memoryview(b"3")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("é", "é".encode()),
        ("", b""),
        (b"\x00", b"\x00"),
        (bytearray(b"b"), b"b"),
        (memoryview(b"m"), b"m"),
        (Blob(["bl", "ob"]), b"blob"),
        (Readings(), b"123"),
        (ReadableStream(b"stream"), b"stream"),
    ],
)
def test_what_a_value_may_be(value: object, stored: bytes, carts: KVNamespace, store: KeyValueStore):
    asyncio.run(carts.put("k", value))
    assert store.get("a.0.carts", "k", time.time()) == Entry(stored)


@pytest.mark.parametrize("value", [None, 1, {"a": 1}, ["a"]])
def test_what_a_value_may_not_be(value: object, carts: KVNamespace):
    text = refusal(carts.put("k", value))
    assert text.startswith("KV put() accepts only str, bytes, Blobs, and streams (async iterators) as values, not ")


@pytest.mark.parametrize(
    "options",
    [
        ((), {"expirationTtl": 100, "metadata": 1}),
        ((), {"expiration_ttl": 100, "metadata": 1}),
        (({"expirationTtl": 100, "metadata": 1},), {}),
        (({"expiration_ttl": 100},), {"metadata": 1}),
        (({"expirationTtl": 100, "expiration": 1, "metadata": 1},), {}),
    ],
)
def test_options_in_each_of_their_forms(options: tuple[Any, Any], carts: KVNamespace, store: KeyValueStore):
    before = int(time.time())
    asyncio.run(carts.put("k", "v", *options[0], **options[1]))
    found = store.get("a.0.carts", "k", time.time())
    assert found is not None
    assert found.metadata == "1"
    assert found.expires is not None
    assert before + 100 <= found.expires <= int(time.time()) + 100


def test_a_key_is_deleted(carts: KVNamespace):
    async def play() -> None:
        await carts.put("k", "v")
        await carts.delete("k")
        await carts.delete("k")
        assert await carts.get("k") is None

    asyncio.run(play())


def test_what_is_put_at_the_same_time_is_all_there(carts: KVNamespace, store: KeyValueStore):
    async def play() -> None:
        await asyncio.gather(*(carts.put(f"k{number:04}", str(number)) for number in range(1200)))

    asyncio.run(play())
    last = store.get("a.0.carts", "k1199", time.time())
    assert last == Entry(b"1199")
    assert not store.list("a.0.carts", "", 1000, None, time.time()).list_complete


def test_of_two_puts_of_one_key_the_later_one_stays(carts: KVNamespace):
    async def play() -> None:
        await asyncio.gather(*(carts.put("k", str(number)) for number in range(50)))
        assert await carts.get("k") == "49"

    asyncio.run(play())


def test_a_put_whose_handler_was_cancelled_holds_up_no_other(carts: KVNamespace):
    async def play() -> None:
        first = asyncio.create_task(carts.put("a", "1"))
        await asyncio.sleep(0)
        second = asyncio.create_task(carts.put("b", "2"))
        await asyncio.sleep(0)
        second.cancel()
        await carts.put("c", "3")
        await first
        assert await carts.get(["a", "c"]) == {"a": "1", "c": "3"}

    asyncio.run(play())


# ---- limits


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (lambda carts: carts.get(""), "Key name cannot be empty."),
        (lambda carts: carts.put(".", ""), '"." is not allowed as a key name.'),
        (lambda carts: carts.delete(".."), '".." is not allowed as a key name.'),
        (
            lambda carts: carts.get("k" * 513),
            "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
        ),
        (
            lambda carts: carts.list(prefix="k" * 513),
            "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
        ),
        (
            lambda carts: carts.put("k", bytes(26_214_401)),
            "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
        ),
        (
            lambda carts: carts.put("k", "", metadata="m" * 1023),
            "KV PUT failed: 413 Metadata length of 1025 exceeds limit of 1024.",
        ),
        (
            lambda carts: carts.put("k", "", expirationTtl=59),
            "KV PUT failed: 400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60.",
        ),
        (
            lambda carts: carts.list(limit=1001),
            "KV GET failed: 400 Invalid key_count_limit of 1001. Please specify an integer less than 1000.",
        ),
        (lambda carts: carts.list(cursor="?"), "KV GET failed: 400 Invalid cursor"),
        (
            lambda carts: carts.get("k", cacheTtl=1),
            "KV GET failed: 400 Invalid cache_ttl of 1. Cache TTL must be at least 60.",
        ),
        (
            lambda carts: carts.get("k", "blob"),
            'Unknown response type. Possible types are "text", "arrayBuffer", "bytes", "json", and "stream".',
        ),
        (lambda carts: carts.put("k", "", {"expirationTTL": 60}), "KV has no option 'expirationTTL'"),
        (lambda carts: carts.list("user:"), "KV options are a dict, not a str."),
    ],
)
def test_errors_in_cloudflares_words(
    work: Callable[[KVNamespace], Coroutine[Any, Any, Any]], text: str, carts: KVNamespace
):
    assert refusal(work(carts)).startswith(text)


def test_a_stream_that_never_ends_is_given_up(carts: KVNamespace):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1_000_000)

    assert (
        refusal(carts.put("k", endless())) == "KV PUT failed: 413 Value length of 27000000 exceeds limit of 26214400."
    )


def test_wrong_arguments_are_type_errors_too(carts: KVNamespace):
    with pytest.raises(TypeError):
        asyncio.run(carts.get(""))
    with pytest.raises(KVTypeError):
        asyncio.run(carts.put("k", None))


def test_a_request_may_make_so_many_calls(carts: KVNamespace):
    outer = Outer("r1")
    outer.subrequests = 3
    part = Part(place="shop/production", version=1, folder="/", main="worker.py")

    async def play() -> None:
        current.set(Invocation(outer, part, None))
        await carts.put("k", "v")
        await carts.get("k")
        await carts.list()
        with pytest.raises(TooManySubrequests):
            await carts.get("k")

    asyncio.run(play())


# ---- docs/kv.md


PAGE = (Path(__file__).parent.parent / "docs/kv.md").read_text()


def test_the_example_of_the_documentation_runs(carts: KVNamespace):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    defined: dict[str, Any] = {}
    exec(example, defined)
    assert asyncio.run(defined["visit"](SimpleNamespace(CARTS=carts))) == ("apples", 1, "ada", None)


def test_the_documentation_has_the_limits():
    limits = dict(
        re.findall(r"^\| (.*?) \| (.*?) \|$", PAGE.partition("| limit |")[2].partition("##")[0], re.MULTILINE)
    )
    numbers = {
        name: [int(digits.replace(",", "")) for digits in re.findall(r"[\d,]*\d", text)]
        for name, text in limits.items()
    }
    assert numbers["key"][0] == keyvalues.KEY_LENGTH
    assert numbers["value"][0] == keyvalues.VALUE_SIZE
    assert numbers["metadata"][0] == keyvalues.METADATA_SIZE
    assert numbers["`expirationTtl`"][0] == keyvalues.SHORTEST
    assert numbers["`list`"][0] == keyvalues.LIST_LIMIT
    assert numbers["`get` of several keys"] == [keyvalues.BULK_KEYS, keyvalues.BULK_SIZE // 1024 // 1024]


# ---- what goes wrong


def test_a_store_that_is_gone_is_said_at_once(tmp_path: Path):
    carts = KVNamespace(KeyValueStore(tmp_path / "gone"), "n")

    async def play(work: Coroutine[Any, Any, Any]) -> None:
        async with asyncio.timeout(30):
            await work

    for work in (carts.get("k"), carts.put("k", "v"), carts.delete("k"), carts.list(), carts.get(["k"])):
        with pytest.raises(KVUnavailable, match="failed: 503 the store is busy or can't be reached") as caught:
            asyncio.run(play(work))
        assert isinstance(caught.value, Unavailable)
        assert caught.value.status == 503
        assert str(tmp_path) not in str(caught.value)
        assert "No such file" in str(caught.value.__cause__)


def test_damage_is_told(tmp_path: Path, carts: KVNamespace):
    (tmp_path / "kv.db").write_bytes(b"no database at all, but long enough to look like one" * 100)
    assert refusal(carts.get("k")) == "KV GET failed: 503 the store is damaged"


def test_each_of_many_puts_is_told(tmp_path: Path):
    carts = KVNamespace(KeyValueStore(tmp_path / "gone"), "n")

    async def play() -> list[BaseException | None]:
        return await asyncio.gather(*(carts.put(f"k{number}", "") for number in range(5)), return_exceptions=True)

    told = asyncio.run(play())
    assert [type(each) for each in told] == [KVUnavailable] * 5
    assert len({id(each) for each in told}) == 5


def test_reads_go_on_while_a_writer_waits(tmp_path: Path, carts: KVNamespace):
    async def play() -> None:
        await carts.put("k", "v")
        with WriteLock(tmp_path / "kv.lock").held():
            waiting = asyncio.create_task(carts.put("k", "w"))
            await asyncio.sleep(0)
            assert await carts.get("k") == "v"
            with pytest.raises(KVUnavailable, match="KV PUT failed: 503 the store is busy") as caught:
                await waiting
            assert "locked by pid" in str(caught.value.__cause__)
        await carts.put("k", "w")
        assert await carts.get("k") == "w"

    asyncio.run(play())


def test_it_shows_nothing_of_the_store(carts: KVNamespace):
    assert repr(carts) == "<KV namespace>"

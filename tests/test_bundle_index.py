"""The stat index: the second bundle reads no file, and none that it ought to have read."""

import os
from pathlib import Path

import pytest

from svcctl.bundle import build
from svcctl.errors import Refused
from svcctl.model import Source

WORKER = "async def fetch(request, env, ctx): ...\n"
SHOP = Source(main="shop/worker.py", root="shop")


class Hashed:
    """How many bytes were read to be hashed."""

    def __init__(self) -> None:
        self.bytes = 0

    def start(self, what: str, total: int | None = None) -> None: ...

    def advance(self, by: int) -> None:
        self.bytes += by

    def done(self) -> None: ...


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/worker.py").write_text(WORKER)
    (tmp_path / "shop/page.html").write_text("one")
    wait_for_a_tick(tmp_path)
    return tmp_path


def wait_for_a_tick(folder: Path) -> None:
    """Until the file system's clock has moved on."""
    mark = folder / "mark"
    mark.write_text("")
    first = mark.stat().st_mtime_ns
    while mark.stat().st_mtime_ns == first:
        mark.write_text("")
    mark.unlink()


def hashed(project: Path) -> tuple[str, int]:
    """The page's blob, and how many bytes were read for the bundle."""
    told = Hashed()
    made = build(project, SHOP, cache=project / "cache", progress=told)
    return made.manifest.files[0].blob, told.bytes


def index(project: Path) -> Path:
    (file,) = (project / "cache").iterdir()
    return file


def test_an_unchanged_tree_is_not_read_again(project: Path) -> None:
    first, all_bytes = hashed(project)
    assert all_bytes == len(WORKER) + 3
    assert hashed(project) == (first, 0)


def test_only_what_changed_is_read_again(project: Path) -> None:
    first, _ = hashed(project)
    (project / "shop/page.html").write_text("two")
    second, read = hashed(project)
    assert second != first
    assert read == 3


def test_a_change_of_the_same_size_with_its_time_set_back_is_seen(project: Path) -> None:
    page = project / "shop/page.html"
    before = page.stat()
    first, _ = hashed(project)
    wait_for_a_tick(project)
    page.write_text("two")
    os.utime(page, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hashed(project)[0] != first


def test_another_file_of_the_same_size_and_time_is_seen(project: Path) -> None:
    page, other = project / "shop/page.html", project / "other.html"
    first, _ = hashed(project)
    other.write_text("two")
    os.utime(other, ns=(page.stat().st_atime_ns, page.stat().st_mtime_ns))
    other.rename(page)
    assert hashed(project)[0] != first


def test_a_file_changed_within_the_tick_of_the_bundle_is_never_trusted(project: Path) -> None:
    """What git calls racy: written, hashed and written again before the clock moves on."""
    page = project / "shop/page.html"
    for number in range(200):
        page.write_text(f"{number:03}")
        hashed(project)
        page.write_text(f"{number + 1:03}")
        made = build(project, SHOP, cache=project / "cache")
        with made.open(made.manifest.files[0].blob) as stream:
            assert stream.read() == b"%03d" % (number + 1)
        assert made.manifest.files[0].blob == hashed(project)[0]


def test_a_file_from_the_future_is_read_every_time(project: Path) -> None:
    future = 4_000_000_000_000_000_000
    os.utime(project / "shop/page.html", ns=(future, future))
    hashed(project)
    assert hashed(project)[1] == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"not msgpack", b"\x92\x02\x80", b"\x92\x01\x81\xa1a\x01"])
def test_a_broken_index_is_made_anew(project: Path, content: bytes) -> None:
    first, all_bytes = hashed(project)
    index(project).write_bytes(content)
    assert hashed(project) == (first, all_bytes)
    assert hashed(project) == (first, 0)


def test_a_truncated_index_is_made_anew(project: Path) -> None:
    first, all_bytes = hashed(project)
    whole = index(project).read_bytes()
    for length in range(0, len(whole), 7):
        index(project).write_bytes(whole[:length])
        assert hashed(project) == (first, all_bytes)


def test_the_index_is_the_owners_alone_and_leaves_nothing_beside_it(project: Path) -> None:
    cache = project / ".svcctl/cache"
    old = os.umask(0)
    build(project, SHOP, cache=cache)
    os.umask(old)
    (file,) = cache.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (cache.parent, cache, file)] == [0o700, 0o700, 0o600]


def test_services_of_one_root_keep_an_index_each(project: Path) -> None:
    (project / "shop/admin.py").write_text(WORKER)
    wait_for_a_tick(project)
    admin = Source(main="shop/admin.py", root="shop", exclude=("page.html",))
    hashed(project)
    build(project, admin, cache=project / "cache")
    assert hashed(project)[1] == 0


def test_a_cache_that_can_not_be_written_says_so(project: Path) -> None:
    (project / "file").write_text("")
    with pytest.raises(Refused, match="/file/cache can't be made: File exists"):
        build(project, SHOP, cache=project / "file/cache")

"""Trees that are odd, huge, broken, or made to reach outside (T25, T26)."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcctl.bundle import Bundle, build
from svcctl.errors import Refused
from svcctl.model import Limits, Source

WORKER = "async def fetch(request, env, ctx): ...\n"
NOBODY = 65534


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "project/shop"
    folder.mkdir(parents=True)
    (folder / "worker.py").write_text(WORKER)
    return folder


def bundle(shop: Path, **said: tuple[str, ...]) -> Bundle:
    source = Source(
        main="shop/worker.py", root="shop", include=said.get("include", ()), exclude=said.get("exclude", ())
    )
    return build(shop.parent, source, cache=shop.parent / ".svcctl/cache")


def paths(made: Bundle) -> list[str]:
    return [file.path for file in made.manifest.files]


def refusal(shop: Path) -> str:
    with pytest.raises(Refused) as caught:
        bundle(shop)
    assert caught.value.message.isprintable()
    return caught.value.message


# ---- links and what is no file


def test_t26_a_link_that_leaves_the_root_is_refused_by_name(shop: Path) -> None:
    (shop.parent / "secret.txt").write_text("canary")
    targets = {
        "relative": "../secret.txt",
        "absolute": "/etc/passwd",
        "folder": "..",
        "through": "inner/../../secret.txt",
    }
    (shop / "inner").mkdir()
    for name, target in targets.items():
        link = shop / name
        link.symlink_to(target)
        assert refusal(shop).startswith(f"shop/{name} is a link to ")
        assert refusal(shop).endswith(", outside of shop")
        assert paths(bundle(shop, exclude=(name,))) == ["worker.py"]
        link.unlink()


def test_a_folder_beside_the_root_that_begins_with_its_name_is_outside(shop: Path) -> None:
    (shop.parent / "shop-private").mkdir()
    (shop / "more").symlink_to("../shop-private")
    assert "outside of shop" in refusal(shop)


def test_links_that_lead_nowhere_or_in_circles_are_refused(shop: Path) -> None:
    (shop / "inner/deep").mkdir(parents=True)
    cases = {"gone": "missing.txt", "self": "self", "inner/up": ".", "inner/deep/top": "../.."}
    for name, target in cases.items():
        link = shop / name
        link.symlink_to(target)
        assert re.match(rf"shop/{name} is a link (that leads nowhere|to a folder it lies in)", refusal(shop))
        link.unlink()


def test_two_folders_that_link_to_each_other_are_a_loop(shop: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (shop / name).mkdir()
        (shop / name / "next").symlink_to(f"../{other}")
    assert "a loop" in refusal(shop)


def test_links_that_span_an_endless_tree_stop_at_the_limit(shop: Path) -> None:
    for depth in range(40):
        (shop / f"d{depth}").mkdir()
        (shop / f"d{depth}/left").symlink_to(f"../d{depth + 1}")
        (shop / f"d{depth}/right").symlink_to(f"../d{depth + 1}")
    (shop / "d40").mkdir()
    source = Source(main="shop/worker.py", root="shop")
    with pytest.raises(Refused, match="more than 500 folders"):
        build(shop.parent, source, cache=shop.parent / "cache", limits=Limits(file_count=500))


def test_a_link_is_no_way_to_what_is_never_bundled(shop: Path) -> None:
    (shop / ".env").write_text("TOKEN=canary")
    (shop / "settings.txt").symlink_to(".env")
    assert refusal(shop) == "shop/settings.txt is a link to .env, which is never bundled"


def test_t26_only_regular_files_are_taken_and_nothing_else_is_opened(shop: Path) -> None:
    os.mkfifo(shop / "pipe")
    assert refusal(shop) == "shop/pipe is a FIFO"
    (shop / "link").symlink_to("pipe")
    assert refusal(shop) == "shop/link is a FIFO"
    assert paths(bundle(shop, exclude=("pipe", "link"))) == ["worker.py"]


def test_a_socket_is_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)  # the name of a socket may have only some hundred characters
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("live.sock")
        assert refusal(shop) == "shop/live.sock is a socket"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_refused(shop: Path) -> None:
    try:
        os.mknod(shop / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices can't be made here")
    assert refusal(shop) == "shop/null is a device"


# ---- names


def test_t25_names_that_break_lines_or_terminals_are_refused_in_words(shop: Path) -> None:
    cases = {
        "new\nline": "shop/new\\nline has a control character in its name",
        "\x1b[31mred": "shop/\\x1b[31mred has a control character in its name",
        "rtl\u202etxt.py": "shop/rtl\\u202etxt.py has a control character in its name",
        "back\\slash": "shop/back\\slash has a backslash in its name, which is a folder on other systems",
    }
    for name, message in cases.items():
        (shop / name).write_text("")
        assert refusal(shop) == message
        (shop / name).unlink()


def test_a_name_that_is_no_utf_8_is_refused(shop: Path) -> None:
    name = os.fsencode(shop) + b"/caf\xe9.txt"
    try:
        Path(os.fsdecode(name)).write_text("")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    assert refusal(shop) == "shop/caf\\udce9.txt is not a name in UTF-8"


def test_names_in_any_script_are_fine(shop: Path) -> None:
    names = ["naïve.txt", "שלום.txt", "日本語/ファイル.txt", "🎉.txt", "with space.txt"]
    for name in names:
        (shop / name).parent.mkdir(exist_ok=True)
        (shop / name).write_text("")
    assert sorted([*names, "worker.py"]) == paths(bundle(shop))


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("Readme.md", "readme.md", "only by upper and lower case"),
        ("Pages/a.html", "pages/b.html", "only by upper and lower case"),
        (unicodedata.normalize("NFC", "ü.txt"), unicodedata.normalize("NFD", "ü.txt"), "only in how their letters are"),
        ("Ünder.txt", unicodedata.normalize("NFD", "ünder.txt"), "only by upper and lower case"),
    ],
)
def test_t25_twins_by_case_or_normalisation_are_refused_naming_both(shop: Path, one: str, other: str, how: str) -> None:
    for name in (one, other):
        (shop / name).parent.mkdir(exist_ok=True)
        (shop / name).write_text("")
    if len({path.name for path in shop.iterdir()}) < 3:
        pytest.skip("this file system takes them for one")
    message = refusal(shop)
    assert how in message
    assert {part.rstrip("/") for part in message.split(" differ ")[0].split(" and ")} <= {one, other, "Pages", "pages"}


def test_t25_a_path_of_4096_bytes_is_refused_with_the_limit(shop: Path) -> None:
    descriptor = os.open(shop, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 100, dir_fd=descriptor)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    message = refusal(shop)
    assert message.endswith("… is a path of 1,110 characters; limits.path_length allows 1,024")
    assert len(message) < 300


def test_folders_nested_beyond_reason_are_refused(shop: Path) -> None:
    (shop / "/".join("d" * 120)).mkdir(parents=True)
    assert refusal(shop).endswith("lies more than 100 folders deep")


# ---- size


def test_t25_a_sparse_file_of_5_gb_is_refused_before_a_byte_is_read(shop: Path) -> None:
    with (shop / "huge.bin").open("wb") as file:
        file.truncate(5_000_000_000)
    assert refusal(shop) == "shop/huge.bin is 5,000,000,000 bytes; limits.file_size allows 1,000,000,000"


def test_t25_a_hundred_thousand_files_are_refused_at_the_limit(shop: Path) -> None:
    for folder in range(10):
        (shop / f"f{folder}").mkdir()
        for number in range(60):
            os.link(shop / "worker.py", shop / f"f{folder}/{number}")
    source = Source(main="shop/worker.py", root="shop")
    with pytest.raises(Refused, match=r"more than 500 files, 60 of them below shop/f0"):
        build(shop.parent, source, cache=shop.parent / "cache", limits=Limits(file_count=500))


MEASURED = """
import resource, sys
from pathlib import Path
from svcctl.bundle import build
from svcctl.model import Source
folder = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
build(folder, Source(main="shop/worker.py", root="shop"), cache=folder / "cache")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_files_are_never_in_memory_whole(shop: Path) -> None:
    with (shop / "large.bin").open("wb") as file:
        file.truncate(300_000_000)
    grown = int(subprocess.check_output([sys.executable, "-c", MEASURED, shop.parent]))
    grown_bytes = grown if sys.platform == "darwin" else grown * 1024
    assert grown_bytes < 50_000_000


# ---- what changes, vanishes or can't be read meanwhile


def test_t26_a_file_swapped_for_a_link_before_upload_reads_nothing_outside(shop: Path) -> None:
    (shop.parent / "secret.txt").write_text(WORKER)
    made = bundle(shop)
    (shop / "worker.py").unlink()
    (shop / "worker.py").symlink_to("../secret.txt")
    with pytest.raises(Refused, match=r"shop/worker\.py was replaced while it was being read"):
        made.open(made.manifest.files[0].blob)


def test_t26_a_folder_swapped_for_a_link_before_upload_reads_nothing_outside(shop: Path) -> None:
    (shop / "inner").mkdir()
    (shop / "inner/x.txt").write_text("inside")
    made = bundle(shop)
    (shop / "inner").rename(shop.parent / "moved")
    (shop.parent / "elsewhere").mkdir()
    (shop.parent / "elsewhere/x.txt").write_text("canary")
    (shop / "inner").symlink_to("../elsewhere")
    with pytest.raises(Refused, match=r"shop/inner/x\.txt changed while it was being read"):
        made.open(made.manifest.files[0].blob)


def test_a_file_that_changes_vanishes_or_becomes_a_fifo_before_upload_is_refused(shop: Path) -> None:
    page = shop / "page.html"
    for change, word in ((page.unlink, "vanished"), (lambda: page.write_text("other"), "changed")):
        page.write_text("first")
        made = bundle(shop)
        change()
        with pytest.raises(Refused, match=rf"shop/page\.html {word} while it was being read") as caught:
            made.open(made.manifest.files[0].blob)
        assert caught.value.next == "type the command again"
    page.write_text("first")
    made = bundle(shop)
    page.unlink()
    os.mkfifo(page)
    with pytest.raises(Refused, match="while it was being read"):
        made.open(made.manifest.files[0].blob)


@pytest.fixture
def swapping(shop: Path) -> Iterator[None]:
    """A folder that is a real one at one moment and a link to the outside at the next."""
    outside = shop.parent / "outside"
    for folder, content in ((shop / "real", "inside"), (outside, "canary")):
        folder.mkdir()
        for number in range(50):
            (folder / f"{number}.txt").write_text(content)
    (shop / "link").symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (shop / "real").rename(shop / "data")
            (shop / "data").rename(shop / "real")
            (shop / "link").rename(shop / "data")
            (shop / "data").rename(shop / "link")

    swapper = threading.Thread(target=swap)
    swapper.start()
    yield
    stop.set()
    swapper.join()


@pytest.mark.usefixtures("swapping")
def test_t26_a_folder_swapped_for_a_link_while_it_is_walked_leads_nowhere(shop: Path) -> None:
    source = Source(main="shop/worker.py", root="shop", exclude=("/real", "/link"))
    canaries, outcomes = {path.stat().st_ino for path in (shop.parent / "outside").iterdir()}, set()
    for _ in range(100):
        try:
            made = build(shop.parent, source, cache=shop.parent / "cache")
        except Refused as error:
            outcomes.add(error.message.partition(" ")[2].split("/")[0])
        else:
            outcomes.add("made")
            assert not canaries & {place.identity[1] for place in made.places.values()}
    assert outcomes


AS_NOBODY = """
import os, sys
from pathlib import Path
from svcctl.bundle import build
from svcctl.errors import Refused
from svcctl.model import Source
folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    build(folder, Source(main="shop/worker.py", root="shop"), cache=cache)
except Refused as error:
    print(error.message)
"""


@pytest.mark.parametrize("hidden", ["secret.txt", "inner", ".gitignore"])
def test_what_may_not_be_read_is_named(hidden: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to nobody
        project = Path(folder)
        (project / "shop/inner").mkdir(parents=True)
        for path, content in {"worker.py": WORKER, "secret.txt": "", ".gitignore": ""}.items():
            (project / "shop" / path).write_text(content)
        (project / "cache").mkdir()
        if os.geteuid() == 0:
            project.chmod(0o755)
            os.chown(project / "cache", NOBODY, NOBODY)
        (project / "shop" / hidden).chmod(0)
        said = subprocess.check_output([sys.executable, "-c", AS_NOBODY, project, project / "cache"], text=True)
        (project / "shop" / hidden).chmod(0o700)
    assert said == f"shop/{hidden} can't be read: Permission denied\n"


# ---- private keys


@pytest.mark.parametrize(
    "content",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
        "\n  -----BEGIN PRIVATE KEY-----\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "\ufeff-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        "PuTTY-User-Key-File-3: ssh-ed25519\n",
    ],
)
def test_a_file_that_looks_like_a_private_key_is_refused(shop: Path, content: str) -> None:
    (shop / "deploy_id").write_text(content)
    for _ in range(2):  # the index must not make the second time pass
        assert refusal(shop) == "shop/deploy_id looks like a private key, which an artifact must never hold"
    assert paths(bundle(shop, exclude=("deploy_id",))) == ["worker.py"]


def test_certificates_and_code_about_keys_are_fine(shop: Path) -> None:
    (shop / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (shop / "check.py").write_text("KEY = '-----BEGIN PRIVATE KEY-----'\n")
    assert paths(bundle(shop)) == ["ca.crt", "check.py", "worker.py"]

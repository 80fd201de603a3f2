"""A disk that is full, a store that may not be read or written (T18): a clear error, nothing lost, works again."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from processes import Acme, Ended

NOBODY = 65534
FULL_AT = (0, 1, 100, 1_000, 4_096, 10_000, 20_000, 33_000, 40_000, 60_000, 100_000, 150_000, 250_000)
COMMANDS = ("deploy", "promote staging production --yes", "rollback --yes", "vars set A=1", "secrets import values.env")


@pytest.fixture(scope="module")
def released_once(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    return Acme.released(tmp_path_factory.mktemp("released"))


@pytest.fixture
def released(released_once: Acme, tmp_path: Path) -> Acme:
    acme = released_once.copied(tmp_path / "copy")
    (acme.folder / "values.env").write_text("KEY=hunter2\n")
    return acme


def is_a_clear_refusal(ended: Ended) -> bool:
    assert ended.status in (1, 7), ended
    assert ended.err.startswith("error: "), ended
    assert "Traceback" not in ended.err
    assert "hunter2" not in ended.err
    return True


@pytest.mark.parametrize("words", COMMANDS)
def test_t18_a_full_disk_loses_nothing(words: str, released: Acme):
    refused = 0
    before, changes = released.state(), released.changes()
    for size in FULL_AT:
        ended = released.short_of_space(size, *words.split())
        assert released.found().problems == (), size
        if ended.status == 0:
            break
        assert is_a_clear_refusal(ended)
        assert (released.state(), released.changes()) == (before, changes), size
        refused += 1
    else:
        released.done(*words.split())
    assert refused >= 3
    assert released.changes() == changes + 1
    released.swept()
    assert released.found().leftovers == ()


def test_t18_a_first_deploy_onto_a_full_disk(tmp_path: Path):
    acme = Acme.new(tmp_path)
    for size in FULL_AT:
        ended = acme.short_of_space(size, "deploy")
        if ended.status == 0:
            break
        assert is_a_clear_refusal(ended)
        assert acme.changes() == 0
    assert acme.done("deploy")
    assert acme.changes() == 1


def test_t18_a_blob_that_does_not_fit(released: Acme):
    large = released.folder / "shop/large.bin"
    large.write_bytes(os.urandom(3_000_000))
    before = released.state()
    refused = released.short_of_space(2_000_000, "deploy")
    assert (refused.status, refused.err.splitlines()[1]) == (
        1,
        "hint: a limit on the size of files is in force (ulimit -f)",
    )
    assert list(released.store.glob("packs/*.tmp")) == []
    assert released.state() == before
    assert released.done("deploy", "--json").json["changed"] is True
    released.swept()
    assert released.found().leftovers == ()


def test_t18_reading_goes_on_while_the_disk_is_full(released: Acme):
    for words in ("history", "status", "show shop/production", "env list", "diff production staging", "verify"):
        ended = released.short_of_space(40_000, *words.split())
        assert ended.status == 0, ended


def test_t18_an_api_that_can_not_keep_its_first_token_does_not_start(released: Acme):
    ended = released.short_of_space(40_000, "api", "--port", "0", "--token-file", "first.token")
    assert is_a_clear_refusal(ended)
    assert not (released.folder / "first.token").exists()


# ---- a store of another user


@pytest.fixture
def shared(released_once: Acme) -> Iterator[Acme]:
    """Where another user can come: pytest's own folders are closed to them."""
    with TemporaryDirectory() as folder:
        acme = released_once.copied(Path(folder) / "copy")
        for path in (Path(folder), acme.folder.parent, acme.folder):
            path.chmod(0o755)
        yield acme


def as_another_user(acme: Acme, *arguments: str) -> Ended:
    """svcctl, imported before the user changes: its source may be closed to them too."""
    ended = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER, str(os.getuid()), *arguments],
        cwd=acme.folder,
        env=acme.environ(PYTHONDONTWRITEBYTECODE="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


AS_ANOTHER_USER = f"""
import importlib, os, pkgutil, sys
import svcctl
for module in pkgutil.walk_packages(svcctl.__path__, "svcctl."):
    if module.name != "svcctl.__main__":
        importlib.import_module(module.name)
from svcctl.cli.main import main
if sys.argv.pop(1) == "0":
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
main()
"""

EVERYTHING = ("history", "deploy", "vars set A=1", "rollback --yes", "verify", "gc --yes", "secrets set KEY")


@pytest.mark.parametrize("words", EVERYTHING)
def test_a_store_that_is_another_user_s_is_said(words: str, shared: Acme):
    if os.getuid() != 0:
        shared.store.chmod(0o000)  # we are nobody else: our own store, closed to us
    try:
        refused = as_another_user(shared, *words.split(), "--json")
        assert refused.status == (1 if words == "deploy" else 7), refused  # a deploy looks for its cache first
        assert str(shared.store) in refused.json["error"]["message"]
        assert "Permission denied" in refused.json["error"]["message"] or "unable to open" in refused.err
    finally:
        shared.store.chmod(0o700)
    assert shared.changes() == 6


@pytest.mark.parametrize("words", EVERYTHING)
def test_a_store_that_may_only_be_read_is_said(words: str, shared: Acme):
    for path in (shared.store, *shared.store.rglob("*")):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222 | 0o444 | (0o111 if path.is_dir() else 0))
    try:
        ended = as_another_user(shared, *words.split(), "--json")
        if words in ("history", "verify"):
            assert ended.status in (0, 7), ended
        else:
            assert ended.status in (1, 7), ended
            assert str(shared.folder) in ended.json["error"]["message"]
    finally:
        for path in (shared.store, *shared.store.rglob("*")):
            path.chmod(0o700)
    assert shared.changes() == 6


@pytest.mark.parametrize("words", ["deploy", "config check", "history"])
def test_a_services_toml_that_may_not_be_read_is_said(words: str, shared: Acme):
    file = shared.folder / "services.toml"
    file.chmod(0o000)
    ended = as_another_user(shared, *words.split(), "--json")
    assert ended.status in (1, 2), ended
    assert "services.toml" in ended.json["error"]["message"]
    assert "ermission denied" in ended.json["error"]["message"]

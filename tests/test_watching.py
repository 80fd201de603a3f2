"""Edits on a real disk: what is told, and what is passed over."""

import queue
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcctl.dataplane.watching import Watch, is_ignored, services_of

PATIENCE = 30.0


class Told:
    """The edits of a folder, relative to it."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self._told: queue.Queue[frozenset[str]] = queue.Queue()
        self.failures: list[str] = []
        self.watch = Watch(
            [str(project / "shop"), str(project / "common")],
            [str(project / "services.toml")],
            self._told.put,
            self.failures.append,
            since=time.time(),
        )
        self.watch.start()

    def until(self, path: str) -> set[str]:
        """Everything up to this edit."""
        found: set[str] = set()
        while path not in found:
            found |= {str(Path(each).relative_to(self.project)) for each in self._told.get(timeout=PATIENCE)}
        return found


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.out\nbuilt/\n")
    for folder in ("shop/deep", "shop/built", "shop/.venv", "common", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    told = Told(tmp_path)
    yield told
    told.watch.close()
    assert told.failures == []


@pytest.mark.parametrize("path", ["shop/worker.py", "shop/deep/page.html", "common/tea.py", "services.toml"])
def test_what_is_saved_is_told(path: str, told: Told):
    (told.project / path).write_text("x")

    assert told.until(path) == {path}


def test_what_nobody_edits_is_passed_over(told: Told):
    for path in (
        "shop/a.out",
        "shop/built/a.py",
        "shop/.venv/b.py",
        "shop/w.pyc",
        "shop/x.sqlite3-wal",
        "shop/.w.py.swp",
        "shop/sedQ1b2C3",
    ):
        (told.project / path).write_text("x")
    (told.project / "shop/__pycache__").mkdir()
    (told.project / "shop/__pycache__/worker.cpython-311.pyc").write_text("x")
    (told.project / "elsewhere/x.py").write_text("x")
    (told.project / "x.py").write_text("x")
    (told.project / "shop/worker.py").write_text("x")

    assert told.until("shop/worker.py") == {"shop/worker.py"}


def test_an_editor_that_replaces_the_file(told: Told):
    (told.project / "shop/worker.py~new").write_text("y")
    (told.project / "shop/worker.py~new").rename(told.project / "shop/worker.py")

    assert "shop/worker.py" in told.until("shop/worker.py")


def test_new_folders_are_watched_too(told: Told):
    (told.project / "shop/new/newer").mkdir(parents=True)
    (told.project / "shop/new/newer/tea.py").write_text("x")
    told.until("shop/new/newer/tea.py")

    (told.project / "shop/new/newer/second.py").write_text("x")
    told.until("shop/new/newer/second.py")


def test_a_folder_that_comes_while_the_watch_is_set_up_is_seen(tmp_path: Path):
    class Interrupted(Watch):
        """A folder is made when the others are listed and not watched yet."""

        def _everything(self) -> Iterator[str]:
            yield from super()._everything()
            if not (tmp_path / "shop/new").exists():
                (tmp_path / "shop/new").mkdir()
                (tmp_path / "shop/new/tea.py").write_text("x")

    (tmp_path / "shop").mkdir()
    heard: queue.Queue[frozenset[str]] = queue.Queue()
    watch = Interrupted([str(tmp_path / "shop")], [], heard.put, pytest.fail, since=time.time())
    watch.start()

    assert heard.get(timeout=PATIENCE) == {str(tmp_path / "shop/new/tea.py")}
    watch.close()


def test_what_was_saved_before_it_was_watched_is_told(tmp_path: Path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "common").mkdir()
    begun = time.time()
    (tmp_path / "shop/worker.py").write_text("x")
    heard: queue.Queue[frozenset[str]] = queue.Queue()
    watch = Watch([str(tmp_path / "shop")], [], heard.put, pytest.fail, since=begun)
    watch.start()

    assert heard.get(timeout=PATIENCE) == {str(tmp_path / "shop/worker.py")}
    watch.close()


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("a.out", True),
        ("built/x/y.py", True),
        ("shop/keep.out", False),
        ("shop/worker.py", False),
        (".gitignore", False),
    ],
)
def test_gitignore_files_decide_from_the_top_down(path: str, ignored: bool, tmp_path: Path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.out\nbuilt/\n")
    (tmp_path / "built/x").mkdir(parents=True)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/.gitignore").write_text("!keep.out\n")

    assert is_ignored(str(tmp_path / path)) is ignored


def test_an_edit_belongs_to_every_service_whose_folder_it_lies_in():
    folders = {"shop": ("/acme/shop", "/acme/common"), "auth": ("/acme/auth", "/acme/common"), "all": ("/acme",)}

    assert services_of(["/acme/common/x.py"], folders) == {"shop", "auth", "all"}
    assert services_of(["/acme/shopping/x.py"], folders) == {"all"}

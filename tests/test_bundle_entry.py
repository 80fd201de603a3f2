"""The entry file is compiled and searched for its handler before anything is uploaded; nothing in it runs."""

from pathlib import Path

import pytest

from svcctl.bundle import build
from svcctl.errors import Refused
from svcctl.model import Source


def check(folder: Path, code: str, name: str = "", python: str | None = None) -> None:
    (folder / "shop").mkdir(exist_ok=True)
    (folder / "shop/worker.py").write_text(code)
    main = f"shop/worker.py:{name}" if name else "shop/worker.py"
    build(folder, Source(main=main, root="shop", python=python), cache=folder / "cache")


@pytest.mark.parametrize(
    "code",
    [
        "from workers import WorkerEntrypoint\nclass Default(WorkerEntrypoint): ...",
        "import workers\nclass Api(workers.WorkerEntrypoint): ...",
        "async def fetch(request, env, ctx): ...",
        "def on_fetch(request): ...",
        "try:\n  from fastapi import FastAPI\n  app = FastAPI()\nexcept ImportError:\n  raise",
        "if True:\n    application = object()",
        "from .handlers import *",
        "from handlers import on_fetch",
        "def __getattr__(name): ...",
        "with open('x') as f: app: object = 1",
    ],
)
def test_what_a_handler_looks_like(tmp_path: Path, code: str) -> None:
    check(tmp_path, code)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "from workers import fetch, Response",
        "def handler(request):\n    app = 1",
        "class Shop:\n    def fetch(self): ...",
        "import app_factory",
    ],
)
def test_a_file_without_a_handler_is_refused_with_what_one_looks_like(tmp_path: Path, code: str) -> None:
    with pytest.raises(Refused, match=r"shop/worker\.py has no handler") as caught:
        check(tmp_path, code)
    assert "class Default(WorkerEntrypoint)" in str(caught.value.hint)


def test_an_object_that_main_names_must_be_bound(tmp_path: Path) -> None:
    check(tmp_path, "api = shop_api = object()", "shop_api.app")
    check(tmp_path, "from setup import *", "anything")
    with pytest.raises(Refused) as caught:
        check(tmp_path, "shop_api = object()", "shop_app")
    assert caught.value.message == "shop/worker.py has no shop_app at its top level, which main names"
    assert caught.value.hint == "did you mean shop_api?"


def test_a_syntax_error_is_shown_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        check(tmp_path, "import x\n\ndef fetch(request)\n    return 1\n")
    assert caught.value.message == "shop/worker.py:3: expected ':'\n    def fetch(request)"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return 1", "shop/worker.py:1: 'return' outside function"),
        ("x = 1\0", "shop/worker.py"),
        ("x = " + "(" * 300 + ")" * 300, "shop/worker.py:1: too many nested parentheses"),
        ("x = " + "-" * 100_000 + "1", "shop/worker.py"),
        ("# -*- coding: klingon -*-", "shop/worker.py"),
    ],
    ids=["return", "null", "nested", "deep", "coding"],
)
def test_whatever_can_not_be_compiled_is_refused(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        check(tmp_path, code)
    assert caught.value.message.startswith(message)


def test_warnings_of_the_compiler_stay_with_the_compiler(tmp_path: Path) -> None:
    check(tmp_path, "assert (1, 'always true')\napp = 1 is 1")


def test_nothing_of_the_file_runs(tmp_path: Path) -> None:
    check(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\napp = 1 / 0")
    assert not (tmp_path / "ran").exists()


def test_code_for_a_newer_python_is_not_judged_by_an_older(tmp_path: Path) -> None:
    check(tmp_path, "app = !!", python="3.99")
    with pytest.raises(Refused, match="invalid syntax"):
        check(tmp_path, "app = !!", python="3.11")

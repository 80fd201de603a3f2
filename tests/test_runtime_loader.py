"""Services' modules side by side, each test in a process of its own: what is loaded stays loaded."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from svcctl import digest, wire
from svcctl.model import File, Manifest
from svcctl.runtime.assembly import Part
from svcctl.runtime.loader import Loader

HARNESS = """
import json, sys
from svcctl import wire
from svcctl.runtime.assembly import Part
from svcctl.runtime.loader import Loader
told = json.loads(sys.stdin.read())
exec(told["before"], globals())
loader = Loader(wire.decode(told["parts"], list[Part]))
load = loader.load
said = []
exec(told["code"], globals())
print(json.dumps(said))
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text))
    return folder


def part(folder: Path, place: str = "shop/production", main: str = "worker.py", **more: Any) -> Part:
    return Part(place=place, version=1, folder=str(folder), main=main, **more)


def run(*parts: Part, code: str, before: str = "") -> Any:
    """Executes `code` where the parts can be loaded; what it appended to `said`."""
    told = {"parts": wire.canonical(parts).decode(), "code": textwrap.dedent(code), "before": before}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HARNESS],
        env={"PATH": os.environ["PATH"]},
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def manifest(folder: Path, root: Path) -> str:
    """That of an artifact which holds what lies in `root` now."""
    files = sorted((path.relative_to(root).as_posix(), path.read_bytes()) for path in root.rglob("*.py"))
    made = Manifest(
        main="worker.py",
        files=tuple(File(path=path, blob=digest.of_blob(content), size=len(content)) for path, content in files),
    )
    (folder / "manifest.json").write_bytes(wire.canonical(made))
    return str(folder / "manifest.json")


NEIGHBOUR = {"worker.py": "import utils\nWHO = utils.WHO\n", "utils.py": "WHO = 'neighbour'\n"}


@pytest.fixture
def neighbour(tmp_path: Path) -> Part:
    """Another service of the same assembly."""
    return part(write(tmp_path / "neighbour", NEIGHBOUR), "neighbour/production")


@pytest.fixture(params=["alone", "beside another"])
def others(request: pytest.FixtureRequest) -> tuple[Part, ...]:
    """Whatever a service does works both ways."""
    return () if request.param == "alone" else (request.getfixturevalue("neighbour"),)


# ---- names


def test_two_services_have_modules_of_the_same_names(tmp_path: Path, neighbour: Part):
    shop = part(write(tmp_path / "shop", {**NEIGHBOUR, "utils.py": "WHO = 'shop'\n"}))
    code = "said += [load(place).WHO for place in ('shop/production', 'neighbour/production')]"
    assert run(shop, neighbour, code=code) == ["shop", "neighbour"]


def test_one_artifact_in_two_environments_is_loaded_twice(tmp_path: Path):
    folder = write(tmp_path / "shop", {"worker.py": "import state\n", "state.py": "seen = []\n"})
    said = run(
        part(folder, "shop/staging"),
        part(folder, "shop/production"),
        code="""
        one, other = load("shop/staging").state, load("shop/production").state
        one.seen.append(1)
        said += [other.seen, load("shop/staging").state is one]
        """,
    )
    assert said == [[], True]


def test_a_single_service_has_plain_names(tmp_path: Path):
    shop = part(write(tmp_path / "shop", {"worker.py": "import app.models\n", "app/models.py": ""}))
    said = run(shop, code="module = load('shop/production'); said += [module.__name__, module.app.models.__name__]")
    assert said == ["worker", "app.models"]


def test_modules_of_several_are_named_by_their_place(tmp_path: Path, neighbour: Part):
    shop = part(write(tmp_path / "shop", {"worker.py": "class Default: ...\n"}))
    said = run(shop, neighbour, code="said.append(repr(load('shop/production').Default))")
    assert said == ["<class 'shop@production.worker.Default'>"]


@pytest.mark.parametrize("main", ["app/worker.py", "http/worker.py", "workers.py", "app/__init__.py:app"])
def test_a_main_file_may_lie_anywhere(tmp_path: Path, others: tuple[Part, ...], main: str):
    file = main.partition(":")[0]
    shop = part(write(tmp_path / "shop", {file: "import names\nWHO = names.WHO\n", "names.py": "WHO = 1\n"}), main=main)
    assert run(shop, *others, code="said.append(load('shop/production').WHO)") == [1]


# ---- ways to import

STATEMENTS = """
import utils
import pack.inner
import pack.inner as renamed
from pack import inner, outer
from pack.inner import deep
from utils import *
import plain.data as plain
import importlib

assert pack.inner is renamed is inner
assert star == 1 and deep == "deep" and outer.back is inner and plain.here

def late():
    import lazy
    from pack import lazier
    return lazy.here and lazier.here

def executed():
    names = {}
    exec("import utils\\nfrom pack import inner", names)
    assert eval("__import__('pack.inner')", {}) is pack
    return names["utils"] is utils and names["inner"] is inner

def by_name():
    assert importlib.import_module(".inner", "pack") is inner
    assert importlib.import_module(".inner", pack.__name__) is inner
    assert importlib.import_module(".inner", pack.__package__) is inner
    return importlib.import_module("pack.inner") is inner and importlib.import_module("utils") is utils
"""
PACKAGE = {
    "utils.py": "star = 1\n",
    "pack/__init__.py": "from . import inner\n",
    "pack/inner.py": "deep = 'deep'\nimport pack.outer\n",
    "pack/outer.py": "from .. import pack\nfrom . import inner as back\n".partition("\n")[2],
    "pack/lazier.py": "here = True\n",
    "plain/data.py": "here = True\n",
    "lazy.py": "here = True\n",
}


@pytest.mark.parametrize("ask", ["late", "executed", "by_name"])
def test_every_way_to_import_finds_the_services_own(tmp_path: Path, others: tuple[Part, ...], ask: str):
    shop = part(write(tmp_path / "shop", {"worker.py": STATEMENTS, **PACKAGE}))
    assert run(shop, *others, code=f"said.append(load('shop/production').{ask}())") == [True]


def test_circles_of_imports_work(tmp_path: Path, others: tuple[Part, ...]):
    files = {
        "worker.py": "import one\nfine = one.two.one is one\n",
        "one.py": "import two\nimport pack.a\n",
        "two.py": "import one\n",
        "pack/__init__.py": "",
        "pack/a.py": "import pack.b as b\n",
        "pack/b.py": "import pack.a as a\n",
    }
    shop = part(write(tmp_path / "shop", files))
    assert run(shop, *others, code="said.append(load('shop/production').fine)") == [True]


INTROSPECTION = """
import dataclasses, importlib, importlib.resources, inspect, pickle, pkgutil, typing
import models, pack

@dataclasses.dataclass
class Cart:
    item: "models.Item"

def pickled():
    return pickle.loads(pickle.dumps(models.Item(3))).price == 3

def hints():
    return typing.get_type_hints(Cart) == {"item": models.Item} and typing.get_type_hints(models.Item) == {"price": int}

def source():
    return inspect.getsource(models.Item.twice).strip().endswith("self.price * 2")

def resources():
    by_name = importlib.resources.files("pack").joinpath("text.txt").read_text()
    return by_name == importlib.resources.files(pack.__package__).joinpath("text.txt").read_text() == "text"

def listed():
    found = [each.name for each in pkgutil.iter_modules(pack.__path__)]
    walked = [each.name for each in pkgutil.walk_packages(pack.__path__, pack.__name__ + ".")]
    loaded = [importlib.import_module(f"pack.{name}") for name in found]
    return found == ["inner"] and importlib.import_module(walked[0]) is loaded[0]

def reloaded():
    models.changed = True
    return importlib.reload(models) is models and models.Item(1).twice() == 2

def guarded():
    return not MAIN

MAIN = __name__ == "__main__"
"""
MODELS = """\
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True)
class Item:
    price: int

    def twice(self):
        return self.price * 2
"""


@pytest.mark.parametrize("ask", ["pickled", "hints", "source", "resources", "listed", "reloaded", "guarded"])
def test_modules_can_be_looked_into(tmp_path: Path, others: tuple[Part, ...], ask: str):
    files = {"worker.py": INTROSPECTION, "models.py": MODELS, "pack/__init__.py": "", "pack/text.txt": "text"}
    shop = part(write(tmp_path / "shop", {**files, "pack/inner.py": ""}))
    assert run(shop, *others, code=f"said.append(load('shop/production').{ask}())") == [True]


TO_DO = "a package has to stand in requirements.txt, a module of the project in the service's folder"
NO_JS = "handlers run on CPython, where there is no js"
ABSENT = {
    "from . import utils": "attempted relative import with no known parent package",
    "import pack.absent": "No module named 'pack.absent'",
    "import numpy": f"No module named 'numpy'; {TO_DO}",
    "import msgspec": f"No module named 'msgspec'; {TO_DO}",
    "import svcctl.errors": f"No module named 'svcctl'; {TO_DO}",
    "from js import Response, console": f"{{}}: {NO_JS}; write instead: from workers import Response",
    "from js import Object": f"{{}}: {NO_JS}; use instead: Object: dict",
    "import js": f"{{}}: {NO_JS}; workers and the standard library have what handlers need",
    "from pyodide.ffi import to_js": "{}: handlers run on CPython, where there is no pyodide; "
    "no conversion is needed: values are plain Python values",
}


@pytest.mark.parametrize("statement", ABSENT)
def test_what_is_not_there_is_said_with_what_to_do(tmp_path: Path, others: tuple[Part, ...], statement: str):
    worker = f"import pack\ntry:\n    {statement}\nexcept ImportError as error:\n    text = str(error)\n"
    shop = part(write(tmp_path / "shop", {"worker.py": worker, "utils.py": "", "pack/__init__.py": ""}))
    assert run(shop, *others, code="said.append(load('shop/production').text)") == [ABSENT[statement].format(statement)]


def test_libraries_of_svcctl_are_out_of_reach_also_when_they_are_asked_for_by_name(
    tmp_path: Path, others: tuple[Part, ...]
):
    worker = """\
    import importlib, importlib.util
    def found(name):
        try:
            return bool(importlib.import_module(name))
        except ImportError:
            return False
    answers = [found("msgspec"), found("svcctl.model"), importlib.util.find_spec("httpx") is not None, found("json")]
    """
    shop = part(write(tmp_path / "shop", {"worker.py": worker}))
    assert run(shop, *others, code="said += load('shop/production').answers") == [False, False, False, True]


# ---- T32: names that others have too

HIDING = {
    "worker.py": "import json, asyncio, svcctl, workers, http.server\nfrom json import OURS\n"
    "answers = [json.OURS, asyncio.OURS, svcctl.OURS, workers.__name__, http.__name__]\n",
    "json.py": "OURS = 'json'\n",
    "asyncio.py": "OURS = 'asyncio'\n",
    "svcctl.py": "OURS = 'svcctl'\n",
    "workers.py": "OURS = 'workers'\n",
    "http/page.html": "a folder of data hides nothing",
}


def test_t32_a_service_sees_its_own_json_py_and_nobody_else_does(tmp_path: Path, others: tuple[Part, ...]):
    shop = part(write(tmp_path / "shop", HIDING))
    said = run(
        shop,
        *others,
        code="""
        said += load("shop/production").answers
        import asyncio, json, logging.config, svcctl.text
        said += [hasattr(json, "OURS"), hasattr(asyncio, "OURS"), hasattr(svcctl, "OURS"), hasattr(json.tool, "main")]
        """,
        before="import json.tool",
    )
    assert said == ["json", "asyncio", "svcctl", "svcctl.runtime.workers", "http", False, False, False, True]


def test_t32_a_neighbour_sees_the_standard_library(tmp_path: Path):
    shop = part(write(tmp_path / "shop", HIDING))
    plain = part(write(tmp_path / "plain", {"worker.py": "import json\nfine = json.loads('1')\n"}), "plain/production")
    assert run(shop, plain, code="load('shop/production'); said.append(load('plain/production').fine)") == [1]


def test_a_service_may_have_a_module_named_as_a_library_of_svcctl(tmp_path: Path, others: tuple[Part, ...]):
    files = {"worker.py": "import httpx, msgspec\nWHO = httpx.WHO + msgspec.WHO\n"}
    shop = part(write(tmp_path / "shop", files | dict.fromkeys(("httpx.py", "msgspec.py"), "WHO = 'shop '\n")))
    said = run(
        shop,
        *others,
        code="""
        said.append(load("shop/production").WHO)
        import httpx, msgspec
        said += [hasattr(httpx, "AsyncClient"), hasattr(msgspec, "Struct"), load("shop/production").WHO]
        """,
    )
    assert said == ["shop shop ", True, True, "shop shop "]


# ---- requirements


VENDORED = {
    "worker.py": "import anyio, greeting\nfrom greeting import words\nWHO = anyio.WHO\nTEXT = words.TEXT\n"
    "def named(name):\n    return greeting.resolve(name)\n",
    "settings.py": "DEBUG = 'debug'\n",
    "python_modules/anyio/__init__.py": "WHO = 'of the service'\n",
    "python_modules/greeting/__init__.py": "import importlib\n"
    "def resolve(name):\n    return importlib.import_module(name)\n"
    "try:\n    import msgspec\nexcept ImportError:\n    msgspec = None\n",
    "python_modules/greeting/words.py": "TEXT = 'hello'\n",
    "python_modules/typing.py": "raise RuntimeError('the standard library goes first')\n",
}


def test_a_service_has_its_own_copy_of_a_library_that_svcctl_uses(tmp_path: Path, others: tuple[Part, ...]):
    shop = part(write(tmp_path / "shop", VENDORED))
    said = run(
        shop,
        *others,
        code="""
        import typing
        module = load("shop/production")
        said += [module.WHO, module.TEXT, module.greeting.msgspec]
        import httpx, sys
        from httpx import AsyncClient
        import anyio, anyio.streams.memory
        said += [hasattr(anyio, "WHO"), hasattr(anyio, "Event"), sys.modules["anyio"] is module.anyio]
        from importlib import import_module
        said += [import_module("anyio._backends._asyncio").__name__, import_module("anyio") is anyio]
        """,
        before="import anyio",
    )
    assert said == ["of the service", "hello", None, False, True, True, "anyio._backends._asyncio", True]


def test_a_library_is_given_a_services_module_by_name(tmp_path: Path, others: tuple[Part, ...]):
    shop = part(write(tmp_path / "shop", VENDORED))
    assert run(shop, *others, code="said.append(load('shop/production').named('settings').DEBUG)") == ["debug"]


def test_requirements_are_shared_by_services(tmp_path: Path):
    worker = "import greeting\n"
    places = ("shop/production", "auth/production")
    parts = [
        part(write(tmp_path / place, {"worker.py": worker, "python_modules/greeting.py": "said = []\n"}), place)
        for place in places
    ]
    code = f"one, other = map(load, {places}); said.append(one.greeting is other.greeting)"
    assert run(*parts, code=code) == [True]


def test_of_a_working_tree_other_folders_belong_to_a_service(tmp_path: Path, others: tuple[Part, ...]):
    common = write(tmp_path / "common", {"__init__.py": "from . import money\n", "money.py": "import utils\nWHO = 1\n"})
    assets = write(tmp_path / "elsewhere/assets", {"colours.py": "RED = 2\n"})
    installed = write(tmp_path / "installed", {"greeting.py": "HI = 3\n"})
    worker = "import common, assets.colours, greeting\nsums = [common.money.WHO, assets.colours.RED, greeting.HI]\n"
    shop = part(
        write(tmp_path / "shop", {"worker.py": worker, "utils.py": ""}),
        beside={"common": str(common), "assets": str(assets)},
        vendored=str(installed),
    )
    assert run(shop, *others, code="said += load('shop/production').sums") == [1, 2, 3]


# ---- what is run is what was deployed


def test_a_traceback_has_the_real_file_and_line(tmp_path: Path, others: tuple[Part, ...]):
    files = {"worker.py": "import broken\n", "broken.py": "\n\nraise LookupError('here')\n"}
    shop = part(write(tmp_path / "shop", files))
    said = run(
        shop,
        *others,
        code="""
        import traceback
        try:
            load("shop/production")
        except LookupError as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            said += [last.filename, last.lineno, last.line]
        """,
    )
    assert said == [str(tmp_path / "shop/broken.py"), 3, "raise LookupError('here')"]


LOAD = """
try:
    said.append(load("shop/production").WHO)
except Exception as error:
    said.append(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def deployed(tmp_path: Path) -> Part:
    files = {"worker.py": "import utils, greeting\nWHO = utils.WHO + greeting.WHO\n", "utils.py": "WHO = 1\n"}
    folder = write(tmp_path / "shop", {**files, "python_modules/greeting.py": "WHO = 2\n"})
    return part(folder, manifest=manifest(tmp_path, folder))


@pytest.mark.parametrize("file", ["worker.py", "utils.py", "python_modules/greeting.py"])
@pytest.mark.parametrize("cached", [False, True])
def test_t1_a_source_that_is_not_what_was_deployed_is_not_run(
    deployed: Part, others: tuple[Part, ...], file: str, cached: bool
):
    if cached:
        assert run(deployed, *others, code=LOAD) == [3]
    source = Path(deployed.folder) / file
    source.write_text(source.read_text().replace("WHO", "W1O"))
    says = f"Damage: shop/production@1: {file} does not hold the bytes that were deployed; none of it was run"
    assert run(deployed, *others, code=LOAD) == [says]


def test_t1_a_file_that_was_not_deployed_is_not_run(deployed: Part, others: tuple[Part, ...]):
    (Path(deployed.folder) / "utils.py").unlink()
    write(Path(deployed.folder), {"utils/__init__.py": "WHO = 1\n"})
    says = "Damage: shop/production@1: utils/__init__.py is no file of its artifact; none of it was run"
    assert run(deployed, *others, code=LOAD) == [says]


def test_t1_a_manifest_that_is_not_the_artifacts_proves_nothing(deployed: Part):
    from msgspec.structs import replace

    other = replace(deployed, code=digest.of("artifact", b"another"))
    assert run(other, code=LOAD) == [
        "Damage: shop/production@1: manifest.json is not that of its artifact; none of it was run"
    ]


def test_byte_code_is_kept(deployed: Part, others: tuple[Part, ...]):
    assert run(deployed, *others, code=LOAD) == [3]
    kept = {path.name.partition(".")[0] for path in Path(deployed.folder).rglob("*.pyc")}
    assert kept == {"worker", "utils", "greeting"}


def test_an_edit_in_the_same_second_is_seen(tmp_path: Path, others: tuple[Part, ...]):
    folder = write(tmp_path / "shop", {"worker.py": "WHO = 1\n"})
    assert run(part(folder), *others, code=LOAD) == [1]
    write(folder, {"worker.py": "WHO = 2\n"})
    assert run(part(folder), *others, code=LOAD) == [2]


# ---- the end


def test_a_process_that_goes_on_has_nothing_left_of_it(tmp_path: Path, neighbour: Part):
    import builtins
    import importlib

    def state() -> list[Any]:
        return [
            dict(sys.modules), list(sys.path), list(sys.path_hooks), list(sys.meta_path),
            builtins.__import__, importlib.import_module.__code__,
        ]  # fmt: skip

    before = state()
    shop = part(
        write(tmp_path / "shop", {"worker.py": "import utils\nWHO = utils.WHO\n", "utils.py": "WHO = 'shop'\n"})
    )
    for parts in ((shop,), (shop, neighbour), (neighbour,)):
        loader = Loader(parts)
        assert [loader.load(each.place).WHO for each in parts] == [each.service for each in parts]
        loader.close()
        assert state() == before


def test_two_assemblies_in_one_process_do_not_meet(tmp_path: Path, neighbour: Part):
    shop = part(write(tmp_path / "shop", {**NEIGHBOUR, "utils.py": "WHO = 'shop'\n"}))
    one, other = Loader([neighbour]), Loader([shop])
    again = Loader([shop])
    assert other.load("shop/production").WHO == "shop"
    assert one.load("neighbour/production").WHO == "neighbour"
    assert again.load("shop/production") is not other.load("shop/production")
    for loader in (one, other, again):
        loader.close()
    assert "utils" not in sys.modules

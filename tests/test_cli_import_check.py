"""A deploy tries whether new code can be imported, and with whom it could share a process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import Acme
from test_bundle_requirements import make_wheel

FETCH = "async def fetch(request, env, ctx): ...\n"
NO_CHECK = "hint: --no-check deploys it all the same\n"


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    """v1 is in staging."""
    acme = Acme.new(tmp_path)
    acme.done("deploy")
    return acme


def write(acme: Acme, text: str, path: str = "shop/worker.py") -> None:
    file = acme.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


# ---- what is refused


FAILING = {
    "import os\n1 / 0\n": "shop/worker.py:2: ZeroDivisionError: division by zero",
    "import sys\nsys.exit('no config')\n": "shop/worker.py:2: it calls sys.exit('no config') as it is imported",
    "import os\nprint('reading config', flush=True)\nos._exit(3)\n": (
        "it ended its process with status 3 as it was imported (os._exit?)\n    reading config"
    ),
    "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n": "it was killed by SIGSEGV as it was imported",
    "from js import Response\n": (
        "shop/worker.py:1: ModuleNotFoundError: from js import Response: handlers run on CPython, where there is no "
        "js; write instead: from workers import Response"
    ),
    "import broken\n": "shop/broken.py:2: SyntaxError: invalid syntax",
    "from without_handler import *\n": (
        "its main file has no handler: no class Default, no fetch, on_fetch, app or application"
    ),
}


@pytest.mark.parametrize("text", FAILING)
def test_t20_a_version_that_fails_as_it_is_imported_is_refused_and_the_old_one_goes_on(acme: Acme, text: str):
    before = acme.state(), acme.changes()
    write(acme, text if "without_handler" in text else text + FETCH)
    write(acme, "def fine(): ...\nthis is no Python\n", "shop/broken.py")
    write(acme, "nothing = None\n", "shop/without_handler.py")
    said = acme("deploy")
    assert (said.status, said.out, said.err) == (1, "", f"error: shop: {FAILING[text]}\n{NO_CHECK}")
    assert (acme.state(), acme.changes()) == before


def test_each_service_that_fails_is_named(acme: Acme):
    for service in ("auth", "shop"):
        write(acme, f"import {service}_config\n{FETCH}", f"{service}/worker.py")
    said = acme("deploy", "--json")
    assert said.status == 1
    assert [line.partition(": No module")[0] for line in said.json["error"]["message"].splitlines()] == [
        "auth: auth/worker.py:1: ModuleNotFoundError",
        "shop: shop/worker.py:1: ModuleNotFoundError",
    ]


def test_no_check_deploys_it_all_the_same(acme: Acme):
    write(acme, f"1 / 0\n{FETCH}")
    assert acme("deploy").status == 1
    acme.done("deploy", "--no-check")
    assert acme.state()["shop/staging"][0] == 2


def test_a_dry_run_refuses_it_too(acme: Acme):
    write(acme, f"1 / 0\n{FETCH}")
    assert acme("deploy", "--dry-run").status == 1


# ---- what is imported


def test_it_is_what_was_bundled_that_is_imported(acme: Acme):
    write(acme, "local.py\n", ".gitignore")
    write(acme, "", "shop/local.py")
    write(acme, f"import local\n{FETCH}")
    assert "shop/worker.py:1: ModuleNotFoundError: No module named 'local'" in acme("deploy").err


def test_folders_shared_by_services_and_files_of_data_are_there(acme: Acme):
    services = (acme.folder / "services.toml").read_text()
    write(
        acme,
        services.replace('main = "shop/worker.py"', 'main = "shop/worker.py"\nwith = ["lib/common"]'),
        "services.toml",
    )
    write(acme, "from common import words\nTEXT = words.TEXT\n", "lib/common/__init__.py")
    write(acme, "TEXT = 'common'\n", "lib/common/words.py")
    write(acme, "common data", "lib/common/words/en/list.txt")
    write(acme, "data", "shop/data/en/list.txt")
    write(acme, "data beside code", "shop/pack/list.txt")
    write(acme, "", "shop/pack/__init__.py")
    write(
        acme,
        "import common\nimport pack\nfrom pathlib import Path\n"
        "here = Path(__file__).resolve().parent\n"
        "for name in ('data/en/list.txt', 'pack/list.txt', 'common/words/en/list.txt'):\n"
        "    assert here.joinpath(name).read_text().endswith(('data', 'code')), name\n"
        f"assert common.TEXT == 'common'\n{FETCH}",
    )  # fmt: skip
    acme.done("deploy")


def test_code_that_the_store_has_is_not_imported_again(acme: Acme, tmp_path: Path):
    imported = tmp_path / "imported"
    write(acme, f"with open({str(imported)!r}, 'a') as file:\n    file.write('.')\n{FETCH}")
    acme.done("deploy")
    acme.done("promote", "staging", "production", "--yes")
    acme.done("deploy")
    acme.done("deploy", "--env", "production", "--service", "shop")
    acme.done("rollback", "staging", "--yes")
    assert imported.read_text() == "."


def test_the_environment_holds_no_secrets(acme: Acme):
    write(
        acme, f"import os, sys\nassert set(os.environ) <= {{'PATH', 'HOME', 'LANG', 'LC_CTYPE'}}, os.environ\n{FETCH}"
    )
    acme.done("deploy", AWS_SECRET_ACCESS_KEY="hunter2", SVCCTL_SECRET_KEY="")


def test_standard_input_is_empty_and_what_is_printed_goes_nowhere(acme: Acme):
    write(acme, f"import sys\nassert sys.stdin.read() == ''\nprint('{{}}', flush=True)\nsys.stderr.write('!')\n{FETCH}")
    said = acme.done("deploy", typed="typed\n")
    assert said.err == ""
    assert said.out.startswith("deployed in change c2\n")


def test_vars_are_there_and_code_that_reads_a_secret_is_not_judged(acme: Acme):
    write(acme, f"from workers import env\nassert env.LOG == 'info'\n{FETCH}")
    assert acme.done("deploy").err == ""
    write(acme, f"from workers import env\nlength = len(env.KEY)\n1 / 0\n{FETCH}")
    assert acme.done("deploy").err == "note: shop: it reads KEY as it is imported: no check goes beyond that\n"


def test_code_for_another_python_is_not_judged(acme: Acme):
    services = (acme.folder / "services.toml").read_text()
    write(acme, services.replace('main = "shop', 'python = "3.99"\nmain = "shop'), "services.toml")
    write(acme, f"1 / 0\n{FETCH}")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    said = acme.done("deploy")
    assert said.err == f"note: shop is for Python 3.99 and this is {here}: its import was not checked\n"


# ---- what hangs


def found(*subjects: dict[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", "-B", "-m", "svcctl.runtime.check"],
        input=json.dumps(subjects),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def subject(folder: Path, text: str, limit: float = 0.2) -> dict[str, Any]:
    folder.mkdir()
    (folder / "worker.py").write_text(text)
    return {"service": folder.name, "folder": str(folder), "main": "worker.py", "limit": limit}


def test_t20_an_import_that_does_not_end_is_ended(tmp_path: Path):
    loop = "while True:\n    try:\n        pass\n    except Exception:\n        pass\n"
    deaf = "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.sleep(1000)\n"
    says = "it did not finish importing within 0.2 s"
    loops, sleeps = found(subject(tmp_path / "loop", loop), subject(tmp_path / "deaf", deaf))
    assert (loops["problem"], loops["file"]) == (says, "worker.py")
    assert sleeps["problem"] == f"{says}, and did not hear the alarm"


def test_what_an_import_started_is_ended_with_it(tmp_path: Path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = (
        "import os, threading, time\n"
        f"held = open({str(fifo)!r}, 'w')\n"
        "if os.fork() == 0:\n"
        "    time.sleep(1000)\n"
        f"threading.Thread(target=time.sleep, args=(1000,)).start()\n{FETCH}"
    )
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert found(subject(tmp_path / "shop", text, 10)) == [{"service": "shop"}]
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b"", "comes when the last writer is gone"
    finally:
        os.close(reader)


# ---- requirements


@pytest.fixture
def wheels(acme: Acme, tmp_path: Path) -> dict[str, str]:
    """The environment in which uv finds them, and nothing else."""
    services = (acme.folder / "services.toml").read_text()
    write(acme, f'python = "3.11"\n{services}', "services.toml")
    for name, version in (("tea", "1.0"), ("tea", "2.0"), ("Django", "5.1")):
        make_wheel(tmp_path / "wheels", name, version)
    found = {
        "FIND_LINKS": tmp_path / "wheels",
        "OFFLINE": 1,
        "NO_CONFIG": 1,
        "NO_INDEX": 1,
        "CACHE_DIR": tmp_path / "uv",
    }
    return {f"UV_{name}": str(value) for name, value in found.items()}


def test_requirements_are_imported_and_stay_as_they_were_installed(acme: Acme, wheels: dict[str, str]):
    write(acme, "tea==1.0\n", "shop/requirements.txt")
    for number in range(2):
        write(acme, f"import tea\nassert tea.VERSION == '1.0'\nnumber = {number}\n{FETCH}")
        acme.done("deploy", PYTHONDONTWRITEBYTECODE="", **wheels)
    (installed,) = (acme.store / "cache/requirements").glob("*/files")
    assert list(installed.glob("tea/__pycache__/*.pyc"))
    acme.done("deploy", **wheels | {"UV_FIND_LINKS": "/nowhere", "UV_CACHE_DIR": "/nowhere"})


def test_services_that_are_bound_need_the_same_versions(acme: Acme, wheels: dict[str, str]):
    write(acme, "tea==1.0\n", "auth/requirements.txt")
    write(acme, "tea==2.0\n", "shop/requirements.txt")
    said = acme("deploy", **wheels)
    assert said.status == 1
    assert said.err == (
        "error: shop/staging has tea 2.0, and auth/staging has 1.0\n"
        "hint: services that are bound to each other run in one process, where each package has one version\n"
    )


def test_versions_are_compared_with_those_of_services_that_are_deployed_already(acme: Acme, wheels: dict[str, str]):
    write(acme, "tea==1.0\n", "auth/requirements.txt")
    acme.done("deploy", "--service", "auth", "--env", "production", **wheels)
    write(acme, "tea==2.0\n", "shop/requirements.txt")
    said = acme("deploy", "--service", "shop", "--env", "production", **wheels)
    assert said.err.startswith("error: shop/production has tea 2.0, and auth/production has 1.0\n")
    write(acme, "tea==1.0\n", "shop/requirements.txt")
    acme.done("deploy", "--service", "shop", "--env", "production", **wheels)


def test_a_framework_that_imports_by_name_stays_alone(acme: Acme, wheels: dict[str, str]):
    write(acme, "Django==5.1\n", "auth/requirements.txt")
    said = acme("deploy", **wheels)
    assert said.err.startswith(
        "error: auth/staging has Django, which imports the service's modules by their names: it can't share a process "
        "with shop/staging\n"
    )


# ---- what its bindings name


def test_a_class_that_a_binding_names_has_to_be_there(acme: Acme):
    bound = 'bindings.ADMIN = { service = "auth", entrypoint = "Admin" }\n'
    file = acme.folder / "services.toml"
    file.write_text(file.read_text() + bound)
    write(acme, "class Admins: ...\n" + FETCH, "auth/worker.py")
    said = acme("deploy")
    reason = "a binding has its entrypoint Admin: there is no class Admin; did you mean Admins?"
    assert (said.status, said.err) == (1, f"error: auth: {reason}\n{NO_CHECK}")
    write(acme, "class Admin: ...\n" + FETCH, "auth/worker.py")
    acme.done("deploy")


def test_an_import_of_worker_says_what_was_meant_and_no_temporary_folder(acme: Acme):
    write(acme, "from worker import Response\n" + FETCH)
    said = acme("deploy")
    assert "; what handlers import is `workers`" in said.err
    assert "svcctl-check" not in said.err

"""`svcctl dev` in a process of its own: edits on the disk, requests through the wire, and what its terminal shows."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from serving import ANSWERS, PATIENCE, WIRE, Answer, Client, Server, Site, get
from test_bundle_requirements import make_wheel

SHOP, AUTH = "shop.localhost", "auth.localhost"
KEY = """\
from workers import Response

async def fetch(request, env, ctx):
    return Response(f"{getattr(env, 'KEY', 'none')} {env.LOG}")
"""
VISITS = """\
from workers import Response

async def fetch(request, env, ctx):
    count = int(await env.VISITS.get("count") or 0) + 1
    await env.VISITS.put("count", str(count))
    return Response(str(count))
"""
PRINTS = """\
from workers import Response

async def fetch(request, env, ctx):
    print("tea \\x1b[31m")
    return Response("")
"""
BROKEN = "import nothing_of_that_name\n"


class Dev(Server):
    """`svcctl dev`, once it has announced itself. What it prints is kept."""

    def __init__(self, process: Any) -> None:
        self.out: list[str] = []
        super().__init__(process)

    def _announcement(self) -> dict[str, Any]:
        for line in self.process.stdout:
            self.out.append(line)
            if found := re.search(r"serving on 127\.0\.0\.1:(\d+)", line):
                self.notes = [each.removeprefix("note: ").rstrip() for each in self.out if each.startswith("note: ")]
                self._follower = threading.Thread(target=self._follow, daemon=True)
                self._follower.start()
                return {"port": int(found[1])}
        raise AssertionError(f"dev ended with {self.process.wait()}: {self.log}")

    def _follow(self) -> None:
        for line in self.process.stdout:
            with self._more:
                self.out.append(line)
                self._more.notify_all()

    def shows(self, text: str) -> str:
        """Waits for this on standard output; the line."""
        with self._more:
            assert self._more.wait_for(lambda: self._found(text), PATIENCE), f"never showed {text!r}:\n{self.log}"
            return self._found(text)[0]

    def _found(self, text: str) -> list[str]:
        return [line for line in self.out if text in line]

    @property
    def log(self) -> str:
        return "".join(self.out + self.err)

    def until(self, host: str, text: str, path: str = "/", *headers: str) -> Answer:
        """Asks until the answer holds this."""
        for _ in range(2_000):
            answer = self.get(host, path, *headers)
            if text in answer.text:
                return answer
        raise AssertionError(f"{host}{path} never held {text!r}; last: {answer}\n{self.log}")

    def ended(self) -> int:
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if hasattr(self, "_follower"):
            self._follower.join(PATIENCE)
        self.process.stdout.close()
        return status


class Desk(Site):
    @contextmanager
    def developing(self, *options: str, **more: Any) -> Iterator[Dev]:
        """It must end well, and at once, when it is interrupted."""
        dev = Dev(self.start("dev", "--port", "0", *options, **more).process)
        try:
            yield dev
            if dev.process.returncode is None:
                dev.process.send_signal(signal.SIGINT)
                assert dev.ended() == 0, dev.log
        finally:
            dev.kill()

    def edit_file(self, old: str, new: str) -> None:
        file = self.folder / "services.toml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk.new(tmp_path)
    desk.edit_file('optional = ["KEY"]\n', "")
    return desk


def test_every_service_answers_from_the_working_tree_and_nothing_is_deployed(desk: Desk):
    desk.code("shop", WIRE)
    with desk.developing() as dev:
        assert dev.get(AUTH).text == "auth v1"
        assert dev.get(SHOP).text == "wire"
        assert dev.get(SHOP, "/auth").text == "auth v1"
        assert dev.get("localhost")[::2] == (
            404,
            b"no service answers at localhost; there is auth.localhost, shop.localhost\n",
        )
        dev.shows("GET /auth 200")

    assert not (desk.store / "ledger.db").exists()
    assert (desk.store / "dev").stat().st_mode & 0o777 == 0o700


def test_an_edit_is_live_on_save_and_restarts_only_deployments_that_hold_it(desk: Desk):
    desk.code("shop", WIRE)
    desk.code("auth", WIRE)
    with desk.developing() as dev:
        shop, auth = (dev.get(host, "/pid").text for host in (SHOP, AUTH))

        desk.code("shop", WIRE.replace('Response("wire")', 'Response("shop v2")'))
        dev.becomes(SHOP, "shop v2")
        second = dev.get(SHOP, "/pid").text
        assert second != shop
        assert dev.get(AUTH, "/pid").text == auth

        desk.code("auth", ANSWERS.format("auth v2"))
        dev.becomes(AUTH, "auth v2")
        dev.becomes(SHOP, "auth v2", "/auth")
        assert dev.get(SHOP, "/pid").text != second
        dev.shows("auth/worker.py changed: auth starts anew")


def test_many_edits_in_a_row_end_with_the_last(desk: Desk):
    with desk.developing() as dev:
        for number in range(30):
            desk.write(f"v{number}")
        dev.becomes(SHOP, "shop v29")
        dev.becomes(AUTH, "auth v29")


def test_an_edit_that_is_saved_before_the_first_request(desk: Desk):
    with desk.developing() as dev:
        desk.write("v2")
        dev.becomes(SHOP, "shop v2")


def test_a_broken_edit_is_shown_to_who_asks_and_in_the_terminal_until_it_is_mended(desk: Desk):
    with desk.developing() as dev:
        assert dev.get(SHOP).text == "shop v1"

        desk.code("shop", BROKEN)
        page = dev.until(SHOP, "<h1>", "/", "Accept: text/html")
        assert page.status == 500
        assert page.header("content-type") == "text/html; charset=utf-8"
        where = f"File &quot;{desk.folder}/shop/worker.py&quot;, line 1"
        assert "nothing_of_that_name" in page.text
        assert where in page.text
        assert f'File "{desk.folder}/shop/worker.py", line 1' in dev.get(SHOP).text
        dev.shows("ModuleNotFoundError: No module named 'nothing_of_that_name'")
        dev.shows("GET / 500")

        desk.write("v2")
        dev.becomes(SHOP, "shop v2")


def test_code_that_is_broken_from_the_beginning_answers_as_soon_as_it_is_mended(desk: Desk):
    desk.code("shop", "async def fetch(:\n")
    with desk.developing() as dev:
        dev.shows("SyntaxError: invalid syntax")
        assert "SyntaxError" in dev.get(SHOP).text
        assert dev.get(AUTH).text == "auth v1"
        desk.write("v2")
        dev.becomes(SHOP, "shop v2")


def test_code_that_ends_its_process(desk: Desk):
    with desk.developing() as dev:
        assert dev.get(SHOP).text == "shop v1"
        desk.code("shop", "import os\nos._exit(3)\n")
        answer = dev.until(SHOP, "does not start: its process")
        assert answer.status == 502
        dev.shows("does not start: its process")
        desk.write("v2")
        dev.becomes(SHOP, "shop v2")


def test_a_main_file_that_is_away_for_a_while(desk: Desk):
    with desk.developing() as dev:
        (desk.folder / "shop").rename(desk.folder / "away")
        dev.until(SHOP, "does not start")
        (desk.folder / "away").rename(desk.folder / "shop")
        dev.becomes(SHOP, "shop v1")


def test_what_a_handler_raises_is_a_page_with_its_own_lines(desk: Desk):
    desk.code("shop", "async def fetch(request, env, ctx):\n    return 1 / 0  # <b>\n")
    with desk.developing() as dev:
        page = dev.get(SHOP, "/", "Accept: text/html")
        assert page.status == 500
        assert "return 1 / 0  # &lt;b&gt;" in page.text
        assert "ZeroDivisionError: division by zero" in dev.get(SHOP).text
        dev.shows(f'File "{desk.folder}/shop/worker.py", line 2, in fetch')


def test_what_a_handler_prints_is_shown_with_its_service_and_kept(desk: Desk):
    desk.code("shop", PRINTS)
    with desk.developing() as dev:
        dev.get(SHOP, "/x?secret=1")
        assert dev.shows("tea") == "shop | tea \\x1b[31m\n"
        assert re.fullmatch(r"GET /x 200 [\d.]+ ms shop\n", dev.shows("GET /x"))

    logged = desk.done("logs", "--backend", ".svcctl/dev", "-s", "shop").out
    assert "shop/dev" in logged
    assert "tea" in logged


def test_an_edit_of_services_toml_is_live_and_a_wrong_one_leaves_everything(desk: Desk):
    desk.code("shop", KEY)
    with desk.developing() as dev:
        dev.becomes(SHOP, "none info")

        desk.edit_file('LOG = "info"', 'LOG = "warn"')
        dev.becomes(SHOP, "none warn")

        desk.edit_file('main = "auth/worker.py"', 'mian = "auth/worker.py"\nroot = 1')
        dev.shows("did you mean main?")
        dev.shows("services.auth.root: must be a string")
        dev.shows("until that is mended, everything stays as it was")
        assert dev.get(AUTH).text == "auth v1"

        desk.edit_file(
            'mian = "auth/worker.py"\nroot = 1', 'main = "auth/worker.py"\n[services.mail]\nmain = "mail/worker.py"'
        )
        dev.shows("there is no file mail/worker.py")
        desk.code("mail", ANSWERS.format("mail v1"))
        desk.edit_file('main = "mail/worker.py"', 'main = "mail/worker.py"\n')
        dev.until("mail.localhost", "mail v1")


def test_secrets_come_from_the_file_beside_and_what_is_missing_is_listed(desk: Desk):
    desk.code("shop", KEY)
    with desk.developing() as dev:
        assert "shop has no value for KEY: write KEY=... into .svcctl.vars" in dev.notes
        dev.becomes(SHOP, "none info")

        (desk.folder / ".svcctl.vars").write_text("# local\nKEY='hunter2'\nLOG=x\n")
        dev.becomes(SHOP, "hunter2 info")
        dev.shows(".svcctl.vars: no service lists LOG under `secrets`, so none is given it")


def test_an_environments_settings(desk: Desk):
    desk.code("shop", KEY)
    desk.edit_file('LOG = "info" }', 'LOG = "info" }\nenvironments.staging.vars.LOG = "test"')
    with desk.developing("--env", "staging") as dev:
        assert dev.get(SHOP).text == "none test"

    desk.done("secrets", "set", "KEY", "-s", "shop", typed="sealed")
    desk.done("deploy")
    desk.done("vars", "set", "LOG=debug", "-s", "shop")
    with desk.developing("--env", "staging") as dev:
        assert dev.get(SHOP).text == "sealed debug"
    with desk.developing() as dev:
        assert dev.get(SHOP).text == "none info"

    (desk.folder / ".svcctl.vars").write_text("KEY=own\n")
    with desk.developing("--env", "staging") as dev:
        assert dev.get(SHOP).text == "own debug"


def test_kv_is_kept_from_one_run_to_the_next_apart_from_every_environments(desk: Desk):
    desk.edit_file('bindings.AUTH = { service = "auth" }', 'bindings.VISITS = { kv = "visits" }')
    desk.edit_file('secrets = ["KEY"]\n', "")
    desk.code("shop", VISITS)
    desk.done("deploy")
    for options, count in (((), "1"), (("--env", "staging"), "2"), (("--at", "shop/staging"), "3")):
        with desk.developing(*options) as dev:
            assert dev.get(SHOP).text == count

    assert desk.done("kv", "key", "list", "VISITS", "-s", "shop", "--json").json["keys"] == []


def test_one_service_from_the_disk_the_others_from_an_environment(desk: Desk):
    desk.code("shop", WIRE)
    desk.edit_file('secrets = ["KEY"]\n', "")
    desk.done("deploy")
    desk.code("auth", ANSWERS.format("auth on disk"))
    with desk.developing("--from", "staging", "-s", "shop") as dev:
        assert "auth/staging@1" in dev.shows(f"http://{SHOP}")
        assert dev.get(SHOP, "/auth").text == "auth v1"
        assert dev.get(AUTH).status == 404
        desk.code("shop", WIRE.replace('Response("wire")', 'Response("v2")'))
        dev.becomes(SHOP, "v2")
        assert dev.get(SHOP, "/auth").text == "auth v1"


def test_stored_versions_without_the_disk(desk: Desk):
    desk.edit_file('secrets = ["KEY"]\n', "")
    desk.live("v1")
    desk.live("v2")
    desk.done("tag", "shop/production@1", "v1.0")
    desk.code("shop", BROKEN)
    with desk.developing("--at", "shop/production@1") as dev:
        assert dev.get(SHOP).text == "shop v1"
        assert dev.get(AUTH).status == 404
    with desk.developing("--at", "production") as dev:
        assert (dev.get(SHOP).text, dev.get(AUTH).text) == ("shop v2", "auth v2")
    with desk.developing("--at", "production@v1.0") as dev:
        assert (dev.get(SHOP).text, dev.get(AUTH).status) == ("shop v1", 404)


def test_another_projects_service_comes_from_the_store(desk: Desk):
    desk.edit_file('secrets = ["KEY"]\n', "")
    desk.live("v1")
    other = Desk(desk.folder.parent / "other")
    other.home.mkdir(parents=True)
    other.folder.mkdir()
    (other.folder / "services.toml").write_text(
        f'project = "other"\nbackend = "{desk.store}"\n[services.web]\nmain = "web/worker.py"\n'
        'bindings.AUTH = { service = "auth", environment = "production" }\n'
    )
    other.code("web", WIRE)
    with other.developing() as dev:
        assert dev.get("web.localhost", "/auth").text == "auth v1"
        assert dev.get("localhost", "/auth").text == "auth v1", "a project of one service"


def test_requirements_are_installed_and_a_change_of_them_is_live(desk: Desk, tmp_path: Path):
    wheels = tmp_path / "wheels"
    make_wheel(wheels, version="1.0")
    make_wheel(wheels, version="2.0")
    desk.edit_file('default_environment = "staging"', 'python = "3.11"')
    desk.code(
        "auth", "import tea\nfrom workers import Response\n\nasync def fetch(r):\n    return Response(tea.VERSION)\n"
    )
    (desk.folder / "auth/requirements.txt").write_text("tea==1.0\n")
    uv = {"UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "uv")}
    with desk.developing(**uv) as dev:
        assert dev.get(AUTH).text == "1.0"
        (desk.folder / "auth/requirements.txt").write_text("tea==3.0\n")
        dev.shows("uv could not install the requirements in auth/requirements.txt")
        assert dev.get(AUTH).text == "1.0"
        (desk.folder / "auth/requirements.txt").write_text("tea==2.0\n")
        dev.becomes(AUTH, "2.0")

        (desk.folder / "shop/requirements.txt").write_text("tea==1.0\n")
        dev.shows("shop/dev has tea 1.0, and auth/dev has 2.0")


def test_a_folder_that_is_taken_away_and_comes_back(desk: Desk):
    with desk.developing() as dev:
        (desk.folder / "shop").rename(desk.folder / "elsewhere")
        gone = dev.until(SHOP, "No such file or directory")
        assert "Traceback" not in gone.text + dev.log
        (desk.folder / "elsewhere").rename(desk.folder / "shop")
        dev.becomes(SHOP, "shop v1")


def test_a_host_of_another_machine_is_no_port_that_is_taken(desk: Desk):
    for host in ("203.0.113.9", "nobody.invalid"):
        ended = desk("serve", "--port", "0", "--host", host)
        assert (ended.status, "another program" in ended.err) == (1, False), ended


def test_a_port_that_is_taken(desk: Desk):
    with desk.developing() as dev:
        ended = desk("dev", "--port", str(dev.port))
    assert ended.status == 1
    assert f"error: another program listens on 127.0.0.1:{dev.port}\n" in ended.err
    free = re.search(r"next: svcctl dev --port \d+ --port (\d+)\n", ended.err)
    assert free
    assert int(free[1]) > dev.port


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--from", "staging"), 2, "which services come from the working tree?"),
        (("--from", "staging", "-s", "shop"), 3, "there is no store"),
        (("--at", "production"), 3, "there is no store"),
        (("--env", "stagin"), 3, "did you mean staging?"),
        (("-s", "shp"), 3, "did you mean shop?"),
        (("--at", "production", "--env", "staging"), 2, "--env has no meaning there"),
    ],
)
def test_what_can_not_be(options: tuple[str, ...], status: int, words: str, desk: Desk):
    ended = desk("dev", "--port", "0", *options)

    assert ended.status == status, ended
    assert words in ended.err
    assert not (desk.store / "dev").exists()


def test_json_is_a_document_a_line(desk: Desk):
    server = Server(desk.start("dev", "--port", "0", "--json").process)
    try:
        assert [each["service"] for each in server.announced["addresses"]] == ["auth", "shop"]
        assert "shop has no value for KEY" in server.announced["notes"][0]
        assert server.ask(get(AUTH)).text == "auth v1"
        assert server.stop() == 0
    finally:
        server.kill()


def test_it_ends_when_nobody_reads_what_it_prints(desk: Desk):
    process = desk.start("dev", "--port", "0", "--json").process
    port = json.loads(process.stdout.readline())["port"]
    process.stdout.close()
    with suppress(OSError), closing(Client(port)) as client:
        client.ask(get(AUTH))
    assert process.wait(PATIENCE) == 0
    process.stderr.close()

"""The examples run, each over real HTTP, deployed as their reader would."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from processes import Acme
from serving import Site, get, post

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"


class Example(Site):
    """A copy of one example, in a git repository."""

    @classmethod
    def of(cls, name: str, folder: Path) -> "Example":
        example = cls(folder)
        example.home.mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__", ".svcctl")
        shutil.copytree(EXAMPLES / name, example.folder, ignore=ignored)
        example.git("init -q -b main", "add -A", "commit -q -m Begin")
        return example

    def git(self, *commands: str) -> None:
        for command in commands:
            subprocess.run(["git", *shlex.split(command)], cwd=self.folder, check=True, env=self.environ())

    def environ(self, **more: str) -> dict[str, str]:
        who = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "Ada")
        who |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "ada@example.com")
        # What says from where packages come on this machine.
        packages = {name: os.environ[name] for name in os.environ if name.startswith(("UV_", "PIP_", "SSL_"))}
        return super().environ(**who, **packages, **more)


def test_shop_asks_auth_before_it_answers(tmp_path: Path):
    shop = Example.of("shop", tmp_path)
    shop.live()
    with shop.serving() as server:
        refused = server.get("shop.localhost")
        assert (refused.status, refused.text) == (401, "Who are you?")
        welcome = server.get("shop.localhost", "/", "Authorization: Bearer me")
        assert (welcome.status, "Welcome!" in welcome.text) == (200, True)
        assert server.get("shop.example.com", "/any", "Authorization: Bearer me").status == 200


def test_a_canary_that_fails_is_covered_by_the_shop(tmp_path: Path):
    canary = Example.of("canary", tmp_path)
    canary.done("deploy", "--env", "canary", "-s", "shop")
    canary.done("deploy", "--env", "production")
    canary.done("vars", "set", "SHARE:=1.0", "--env", "production", "-s", "front")
    answer = "the shop, for GET http://front.localhost/a"
    with canary.serving() as server:
        assert server.get("front.localhost", "/a").text == answer
    canary.code("shop", "async def fetch(request):\n    raise RuntimeError('not yet')\n")
    canary.done("deploy", "--env", "canary", "-s", "shop")
    with canary.serving() as server:
        assert server.get("canary--shop.localhost").status == 500
        assert server.get("front.localhost", "/a").text == answer
        assert server.ask(post("front.localhost", "/a", b"once")).status == 500


def test_every_environment_counts_its_own_visits(tmp_path: Path):
    visits = Example.of("kv", tmp_path)
    visits.live()
    with visits.serving() as server:
        assert [server.get("visits.localhost", "/a").text for _ in range(2)] == ["visit 1 of /a\n", "visit 2 of /a\n"]
        assert server.get("staging--visits.localhost", "/a").text == "visit 1 of /a\n"
        assert json.loads(server.get("visits.localhost", "/_all").text) == {"/a": 2}
        assert server.ask(get("visits.localhost", "/a", method="DELETE")).status == 204
        assert json.loads(server.get("visits.localhost", "/_all").text) == {}
    listed = visits.done("kv", "key", "list", "VISITS", "--env", "staging", "--json").json
    assert [key["name"] for key in listed["keys"]] == ["/a"]


def test_a_fastapi_application_as_it_is(tmp_path: Path):
    notes = Example.of("fastapi", tmp_path)
    notes.done("secrets", "set", "TOKEN", "--env", "staging", typed="let me in")
    notes.done("deploy")
    host, token = "staging--notes.localhost", "Authorization: Bearer let me in"
    with notes.serving() as server:
        assert json.loads(server.get(host).text) == {"title": "Notes", "notes": 0}
        note = json.dumps({"text": "milk"}).encode()
        assert server.ask(post(host, "/notes/a", note, JSON).replace(b"POST", b"PUT")).status == 401
        assert server.ask(post(host, "/notes/a", note, JSON, token).replace(b"POST", b"PUT")).status == 200
        assert json.loads(server.get(host, "/notes/a").text) == {"text": "milk"}
        assert server.get(host, "/notes/b").status == 404
        assert server.get(host, "/all.txt").text == "a: milk\n"


def test_a_django_application_as_it_is(tmp_path: Path):
    guestbook = Example.of("django", tmp_path)
    guestbook.done("secrets", "set", "SECRET_KEY", "--env", "staging", typed="not for production")
    guestbook.done("deploy")
    host = "staging--guestbook.localhost"
    with guestbook.serving() as server:
        assert "<h1>Guestbook</h1>" in server.get(host).text
        signed = server.ask(post(host, "/sign/", b"name=Ada+%3C3", FORM))
        assert (signed.status, signed.header("location")) == (302, "/")
        assert "<li>Ada &lt;3, " in server.get(host).text


def test_a_branch_has_a_preview(tmp_path: Path):
    """examples/preview/preview.sh, on the shop."""
    shop = Example.of("shop", tmp_path)
    shop.live()
    with shop.serving() as server:
        shop.git("switch -q -c feature/louder")
        worker = shop.folder / "shop/worker.py"
        worker.write_text(worker.read_text().replace("self.env.GREETING", "self.env.GREETING.upper()"))
        shop.git("commit -q -am Louder")
        for _ in range(2):  # each push runs it
            pushed(shop)
        me = "Authorization: Bearer me"
        assert "WELCOME!" in server.get("feature-louder--shop.localhost", "/", me).text
        assert "Welcome!" in server.get("shop.localhost", "/", me).text


def pushed(example: Acme) -> None:
    svcctl = str(Path(sys.executable).parent)
    environ = example.environ() | {"PATH": f"{svcctl}:{example.environ()['PATH']}"}
    script = str(EXAMPLES / "preview/preview.sh")
    done = subprocess.run([script], cwd=example.folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

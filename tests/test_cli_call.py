"""`svcctl call`: requests through stored versions, without a server."""

import base64
from pathlib import Path

import pytest
from serving import WIRE, Site

ECHO = """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        print("was here")
        self.ctx.waitUntil(self.later())
        body = await request.bytes()
        said = f"{request.method} {request.url} {request.headers.get('x-me')} {body.decode()} {self.env.LOG}"
        return Response(said, status=201, headers={"X-Said": "yes"})

    async def later(self):
        print("and later")
"""
SHOP = """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("shop, " + await (await self.env.AUTH.fetch(request)).text())
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.new(tmp_path)


def test_the_answers_body_is_what_is_printed(site: Site):
    site.code("shop", ECHO)
    site.done("deploy")
    said = site.done("call", "shop/staging", "/carts?user=7", "-X", "PUT", "-d", "two apples", "-H", "X-Me: ada")
    assert said.out == "PUT http://staging--shop.localhost/carts?user=7 ada two apples info"
    assert said.err.splitlines() == ["was here", "and later"]


def test_status_and_headers_on_request(site: Site):
    site.code("shop", ECHO)
    site.done("deploy")
    head, _, body = site.done("call", "shop/staging", "-i", "-d", "x").out.partition("\n\n")
    assert head.splitlines()[0] == "HTTP 201"
    assert "x-said: yes" in head.lower()
    assert body.startswith("POST ")


def test_a_head_has_no_body(site: Site):
    site.code("shop", ECHO)
    site.done("deploy")
    assert site.done("call", "shop/staging", "-X", "HEAD").out == ""
    assert "x-said: yes" in site.done("call", "shop/staging", "-X", "HEAD", "-i").out.lower()


def test_json_has_all_of_it(site: Site):
    site.code("shop", ECHO)
    site.code("auth", WIRE)
    site.done("deploy")
    answer = site.done("call", "shop/staging", "--json").json
    assert (answer["ref"], answer["status"]) == ("shop/staging@1", 201)
    assert ["x-said", "yes"] in answer["headers"]
    assert answer["body"].startswith("GET http://staging--shop.localhost/ None")
    (site.folder / "bytes").write_bytes(b"\xff\x00")
    raw = site.done("call", "auth/staging", "/echo", "-d", "@bytes", "--json").json
    assert base64.b64decode(raw["base64"]) == b"\xff\x00"


def test_every_version_ever_made_answers_as_when_it_was_made(site: Site):
    """T15, for what a version says: its code, with the settings and the bound service of then and of now."""
    site.write("v0")
    site.done("deploy", "-s", "auth")
    made = {}
    for number in range(1, 5):
        if number % 2:
            site.code("shop", ECHO.replace("yes", f"yes {number}"))
            site.done("deploy", "-s", "shop")
        else:
            site.done("vars", "set", f"LOG={number}", "-s", "shop", "--env", "staging")
        made[number] = site.done("call", "shop/staging", "-i").out
    site.done("rollback", "staging", "-s", "shop")
    site.done("gc")
    assert {number: site.done("call", f"shop/staging@{number}", "-i").out for number in made} == made
    assert len(set(made.values())) == len(made)


def test_with_puts_a_version_wherever_its_service_is_reached(site: Site):
    site.write("v1")
    site.code("shop", SHOP)
    site.live()
    site.write("v2")
    site.code("shop", SHOP)
    site.done("deploy")
    assert site.done("call", "shop/production").out == "shop, auth v1"
    assert site.done("call", "shop/production", "--with", "auth/staging").out == "shop, auth v2"
    assert site.done("call", "shop/staging", "--with", "auth/staging@1").out == "shop, auth v1"
    assert site.done("call", "shop/production").out == "shop, auth v1", "nothing was changed"


def test_with_a_service_that_is_not_reached_is_a_slip(site: Site):
    site.live("v1")
    said = site("call", "auth/staging", "--with", "shop/staging")
    assert said.status == 2
    assert "auth/staging does not reach shop" in said.err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("async def fetch(request):\n    raise LookupError('no cart')\n", ["LookupError: no cart", "worker.py"]),
        ("async def fetch(request):\n    return 'text'\n", ["a handler must return a Response, not a str"]),
        ("async def fetch(request, env):\n    return await env.SELF.fetch(request)\n", ["has no SELF"]),
    ],
)
def test_what_a_handler_does_wrong_is_told_and_is_a_failure(site: Site, code: str, words: list[str]):
    site.code("shop", code)
    site.done("deploy")
    said = site("call", "shop/staging")
    assert (said.status, said.out) == (1, "")
    assert [word for word in words if word not in said.err] == []
    assert "calling.py" not in said.err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("shop/staging", "carts"), 2, "'carts' is no path"),
        (("shop/staging", "/", "-H", "nothing"), 2, "must be NAME: VALUE"),
        (("shop/nowhere", "/"), 3, "no environment 'nowhere'"),
        (("shop/staging@9", "/"), 3, "has no version 9"),
        (("shop/production", "/"), 3, "no versions yet"),
        (("shop/staging", "/", "-d", "@nope"), 3, "there is no file nope"),
        (("shop/staging", "/", "-d", "@."), 2, ".: Is a directory"),
    ],
)
def test_what_cannot_be_asked(site: Site, arguments: tuple[str, ...], status: int, words: str):
    site.write("v1")
    site.done("deploy")
    said = site("call", *arguments)
    assert said.status == status, said
    assert words in said.err


def test_an_environment_that_lacks_a_secret_is_not_called(site: Site):
    site.write("v1")
    site.done("secrets", "set", "KEY", "-s", "shop", "--env", "staging", typed="x")
    site.done("deploy")
    text = (site.folder / "services.toml").read_text().replace('optional = ["KEY"]\n', "")
    (site.folder / "services.toml").write_text(text)
    site.done("deploy")
    site.done("env", "clone", "staging", "preview", "--no-secrets")
    said = site("call", "shop/preview")
    assert said.status == 1
    assert "not live: it lacks secret KEY" in said.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-X", "BAD METHOD"), "Invalid HTTP method string: 'BAD METHOD'"),
        (("-X", "CONNECT"), "Requests with the method CONNECT can't be sent"),
        (("-X", "GET", "-d", "x"), "Request with a GET or HEAD method cannot have a body."),
        (("-H", "a name: x"), "Invalid header name: 'a name'"),
    ],
)
def test_a_request_that_can_t_be_is_no_fault_of_the_service(site: Site, options: tuple[str, ...], said: str):
    site.done("deploy")
    ended = site("call", "shop/staging", "/", *options)
    assert (ended.status, ended.out, ended.err) == (2, "", f"error: {said}\n")

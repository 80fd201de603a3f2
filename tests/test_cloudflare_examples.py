"""Handlers in the shapes of Cloudflare's published Python examples: each a file of its own, deployed as it is.

What they fetch is a server of this test's. The code is ours; the shapes (imports, signatures, what is passed where) are
those of the examples repository and of the pages that it goes with.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from serving import Answer, Server, Site, get, post

HANDLERS = {
    "decorated": """\
from workers import Response, handler

@handler
async def on_fetch(request, env):
    return Response("Hello " + env.NAME)
""",
    "silent": """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def scheduled(self, controller, env, ctx):
        print("not called")

    async def fetch(self):
        return Response("asked for nothing")
""",
    "kept": """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        await self.env.FOO.put("bar", "baz")
        return Response(await self.env.FOO.get("bar"))
""",
    "parsed": """\
from urllib.parse import parse_qs, urlparse
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        if request.method == "POST":
            body = await request.json()
            return Response.json({"name": body["name"]}, headers={"content-type": "application/json;charset=UTF-8"})
        if "name" in (asked := parse_qs(url.query)):
            return Response("Hello, {}".format(asked["name"][0]))
        if url.path == "/favicon.ico":
            return Response("")
        return Response("Not found", status=404)
""",
    "assets": """\
import page
from pathlib import Path
from workers import Request, Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request: Request):
        found = Path(__file__).parent / page.NAME
        return Response(found.read_text(), headers={"Content-Type": "text/html"})
""",
    "logging": """\
import logging
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        logger = logging.getLogger(__name__)
        logging.basicConfig(level=logging.INFO)
        logger.error("an error")
        logger.info("an info")
        print(dict(request.headers)["x-one"])
        return Response("logged")
""",
    "cookies": """\
from http.cookies import SimpleCookie
from workers import Response

async def on_fetch(request):
    jar = SimpleCookie(request.headers["Cookie"] or "")
    return Response(jar["uid"].value if "uid" in jar else "nobody")
""",
    "altered": """\
from workers import Response, fetch

async def on_fetch(request, env):
    answer = await fetch(env.ORIGIN)
    headers = answer.headers
    headers["x-added"] = "yes"
    if "x-gone" in headers:
        del headers["x-gone"]
    del headers["x-never-there"]
    headers["x-changed"] = "new"
    return Response(answer.body, headers=headers)
""",
    "modified": """\
import json
from workers import Response, fetch

async def on_fetch(request, env):
    original = await fetch(env.ORIGIN)
    response = Response(original.body, status=500, status_text="some message", headers=original.headers)
    body = await original.json()
    body["foo"] = "bar"
    response = response.replace_body(json.dumps(body))
    response.headers["foo"] = "bar"
    if (source := response.headers["foo"]) is not None:
        response.headers["Last-Modified"] = source
    return response
""",
    "tested": """\
from urllib.parse import urlparse, urlunparse
from workers import Response, fetch

async def on_fetch(request, env):
    path = urlparse(request.url).path
    url = urlparse(env.ORIGIN)
    if path.startswith("/control"):
        return fetch(urlunparse(url._replace(path=path)))
    answer = await fetch(urlunparse(url._replace(path="/control" + path)))
    headers = dict(answer.headers)
    headers["Set-Cookie"] = "group=control; path=/"
    return Response(answer.body, headers=headers)
""",
    "gathered": """\
import asyncio
from workers import Response, fetch

async def on_fetch(request, env):
    answers = await asyncio.gather(fetch(env.ORIGIN + "1"), fetch(env.ORIGIN + "2"))
    results = await asyncio.gather(*(answer.json() for answer in answers))
    return Response.json(results, headers={"content-type": "application/json;charset=UTF-8"})
""",
    "guarded": """\
from urllib.parse import urlparse
from workers import Response, fetch

async def on_fetch(request, env):
    answer = await fetch(env.ORIGIN)
    if (referer := request.headers["Referer"]) and (answer.headers["Content-Type"] or "").startswith("application/"):
        if urlparse(referer).hostname != urlparse(request.url).hostname:
            return Response.redirect("https://home.example/", 302)
    return answer
""",
    "highlights": """\
from workers import Request, Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request: Request):
        return Response("call a method")

    async def marked(self, code: str, language: str = None) -> dict:
        return {"html": f"<pre>{code}</pre>", "language": language or "unknown"}
""",
    "calls": """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        marked = await self.env.PY.marked("1", language="python")
        return Response.json(marked | {"other": await self.env.PY.marked("2")})
""",
    "asgi4": """\
from workers import WorkerEntrypoint, asgi

async def app(scope, receive, send):
    body = scope["env"].NAME + " " + scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body.encode()})

class Default(WorkerEntrypoint):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.app = app

    async def fetch(self, request):
        return await asgi.fetch(self.app, request, self.env, self.ctx)
""",
    "asgi": """\
from workers import WorkerEntrypoint

async def app(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": message["body"].upper()})

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        import asgi

        return await asgi.fetch(app, request.js_object, self.env)
""",
    "wsgi": """\
from workers import WorkerEntrypoint, wsgi

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await wsgi.fetch(app, request, self.env)

def app(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [environ["PATH_INFO"].encode(), b" ", environ["wsgi.input"].read()]
""",
}
BINDINGS = {
    "decorated": 'vars = { NAME = "Ada" }',
    "asgi4": 'vars = { NAME = "Ada" }',
    "kept": 'bindings.FOO = { kv = "foo" }',
    "calls": 'bindings.PY = { service = "highlights" }',
}
FETCHING = {"altered", "modified", "tested", "gathered", "guarded"}


class Told(BaseHTTPRequestHandler):
    """Answers with the path that it was asked for, as JSON."""

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", "X-Gone": "1", "X-Changed": "old"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def origin() -> Iterator[str]:
    """Its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Examples(NamedTuple):
    site: Site
    server: Server

    def get(self, name: str, path: str = "/", *headers: str) -> Answer:
        return self.server.get(f"staging--{name}.localhost", path, *headers)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    with origin() as url:
        site = Site(tmp_path_factory.mktemp("examples"))
        site.home.mkdir()
        lines = ['project = "acme"', 'default_environment = "staging"']
        for name, code in HANDLERS.items():
            folder = site.folder / name / "src"
            folder.mkdir(parents=True)
            (folder / "entry.py").write_text(code)
            lines += [f"[services.{name}]", f'main = "{name}/src/entry.py"', BINDINGS.get(name, "")]
            if name in FETCHING:
                lines.append(f'vars = {{ ORIGIN = "{url}" }}')
        (site.folder / "services.toml").write_text("\n".join(lines))
        (site.folder / "assets/src/page.py").write_text('NAME = "index.html"')
        (site.folder / "assets/src/index.html").write_text("<h1>bundled</h1>")
        site.done("deploy")
        with site.serving("--allow-private", "127.0.0.0/8") as server:
            yield Examples(site, server)


def test_a_decorated_function_and_a_fetch_without_request(examples: Examples):
    assert examples.get("decorated").text == "Hello Ada"
    assert examples.get("silent").text == "asked for nothing"


def test_kv_gives_what_was_put(examples: Examples):
    assert examples.get("kept").text == "baz"


def test_url_query_and_json_are_read(examples: Examples):
    assert examples.get("parsed", "/?name=Bob%20B").text == "Hello, Bob B"
    icon = examples.get("parsed", "/favicon.ico")
    assert (icon.status, icon.body) == (200, b"")
    assert examples.get("parsed").status == 404
    answer = examples.server.ask(post("staging--parsed.localhost", "/", b'{"name": "Bob"}'))
    assert (answer.header("content-type"), json.loads(answer.text)) == (
        "application/json;charset=UTF-8",
        {"name": "Bob"},
    )


def test_a_module_and_a_file_beside_the_entry_point(examples: Examples):
    page = examples.get("assets")
    assert (page.header("content-type"), page.text) == ("text/html", "<h1>bundled</h1>")


def test_logging_set_up_in_a_request_and_print_are_logged(examples: Examples):
    assert examples.get("logging", "/", "X-One: 1").text == "logged"
    logged = examples.site.done("logs", "staging", "-s", "logging", "--json").json["logs"]
    told = sorted((each["level"], each["message"], each["ref"]) for each in logged)
    assert told == [
        ("error", "entry: an error", "logging/staging@1"),
        ("info", "1", "logging/staging@1"),
        ("info", "entry: an info", "logging/staging@1"),
    ]


def test_a_header_that_is_not_there_is_none(examples: Examples):
    assert examples.get("cookies").text == "nobody"
    assert examples.get("cookies", "/", "Cookie: a=b; uid=7").text == "7"


def test_headers_of_what_was_fetched_are_altered_and_sent(examples: Examples):
    answer = examples.get("altered")
    assert json.loads(answer.text) == {"path": "/"}
    found = [answer.header(name) for name in ("x-added", "x-gone", "x-changed", "content-type")]
    assert found == ["yes", None, "new", "application/json"]


def test_a_body_is_read_after_another_response_was_made_of_it(examples: Examples):
    answer = examples.get("modified")
    assert (answer.status, json.loads(answer.text)) == (500, {"path": "/", "foo": "bar"})
    assert (answer.header("foo"), answer.header("last-modified")) == ("bar", "bar")


def test_what_fetch_gives_is_handed_on_without_await(examples: Examples):
    assert json.loads(examples.get("tested", "/control/a").text) == {"path": "/control/a"}
    answer = examples.get("tested", "/a")
    assert (answer.header("set-cookie"), json.loads(answer.text)) == (
        "group=control; path=/",
        {"path": "/control/a"},
    )


def test_requests_are_sent_together(examples: Examples):
    assert json.loads(examples.get("gathered").text) == [{"path": "/1"}, {"path": "/2"}]


def test_a_redirect_for_strangers(examples: Examples):
    away = examples.get("guarded", "/", "Referer: https://elsewhere.example/")
    assert (away.status, away.header("location")) == (302, "https://home.example/")
    assert examples.get("guarded", "/", "Referer: http://staging--guarded.localhost/").status == 200


def test_methods_are_called_by_position_and_name(examples: Examples):
    assert examples.get("highlights").text == "call a method"
    assert json.loads(examples.get("calls").text) == {
        "html": "<pre>1</pre>",
        "language": "python",
        "other": {"html": "<pre>2</pre>", "language": "unknown"},
    }


def test_applications_behind_an_entry_point(examples: Examples):
    assert examples.get("asgi4", "/x").text == "Ada /x"
    answer = examples.server.ask(post("staging--asgi.localhost", "/", b"loud"))
    assert (answer.status, answer.text) == (201, "LOUD")
    assert examples.server.ask(post("staging--wsgi.localhost", "/p", b"body")).text == "/p body"
    assert examples.server.ask(get("staging--wsgi.localhost", "/p", method="HEAD")).body == b""

"""Service bindings: what a call costs nobody, what stops a circle, and what each side may do to the other's values."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from svcctl.runtime.assembly import Assembly, Part, ToService, ToVersion
from svcctl.runtime.env import Env
from svcctl.runtime.invocation import DEPTH, SUBREQUESTS, Outer, current
from svcctl.runtime.limits import CallDepthExceeded, TooManySubrequests
from svcctl.runtime.running import Running
from svcctl.runtime.tracebacks import readable
from svcctl.runtime.workers import Request

SHOP = """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.AUTH.fetch(request)
    async def back(self):
        return await self.env.AUTH.again()
"""
AUTH = """\
import asyncio, threading
from workers import Response, WorkerEntrypoint, env

EARLY = env.ISSUER

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(f"{self.env.ISSUER} answers {request.method}")
    async def check(self, token, *, loud=False):
        return token.upper() if loud else token
    async def keep(self, value):
        value["kept"] = True
        self.value = value
        return value
    async def give(self):
        return KEPT
    async def fail(self):
        raise LookupError("nobody here")
    def thread(self):
        return threading.current_thread() is not threading.main_thread()
    async def who(self):
        await asyncio.sleep(0)
        return [self.ctx.part.place, self.ctx.outer.id, self.ctx.depth, EARLY]
    async def again(self):
        return await self.env.SHOP.back()
    not_a_method = 7

KEPT = {"list": []}

class Admin(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("admin")
    async def check(self, token):
        return "admin"
"""


@contextmanager
def running(folder: Path, shop: str = SHOP, auth: str = AUTH) -> Iterator[Running]:
    for name, text in (("shop", shop), ("auth", auth)):
        (folder / name).mkdir()
        (folder / name / "worker.py").write_text(text)
    shop_part = Part(
        place="shop/production",
        version=3,
        folder=str(folder / "shop"),
        main="worker.py",
        reaches={
            "AUTH": ToService(place="auth/production"),
            "ADMIN": ToService(place="auth/production", entrypoint="Admin"),
            "NOBODY": ToService(place="auth/production", entrypoint="Nobody"),
            "SELF": ToService(place="shop/production"),
            "VERSION": ToVersion(id="shop/production@3", tag="v1", timestamp="2026-11-24T00:00:00.000Z"),
        },
    )
    auth_part = Part(
        place="auth/production",
        version=2,
        folder=str(folder / "auth"),
        main="worker.py",
        vars={"ISSUER": "id"},
        reaches={"SHOP": ToService(place="shop/production")},
    )
    found = Running(Assembly(parts=(shop_part, auth_part)), lambda: pytest.fail("no KV here"))
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as found:
        yield found


async def inside(found: Running, work: Any, outer: Outer | None = None) -> Any:
    """`work(env)`, as the front's handler would do it."""
    invocation = found.invocation(outer or Outer("r1"))
    token = current.set(invocation)
    try:
        return await work(found.front.env)
    finally:
        current.reset(token)


def call(found: Running, work: Any, outer: Outer | None = None) -> Any:
    return asyncio.run(inside(found, work, outer))


def test_fetch_is_the_other_handlers_answer(shop: Running):
    async def work(env: Env) -> str:
        answer = await env.AUTH.fetch(Request("http://shop/", method="PUT"))
        text: str = await answer.text()
        return text

    assert call(shop, work) == "id answers PUT"


def test_fetch_takes_an_address_and_options(shop: Running):
    async def work(env: Env) -> str:
        answer = await env.AUTH.fetch("http://auth/check", method="DELETE")
        text: str = await answer.text()
        return text

    assert call(shop, work) == "id answers DELETE"


def test_methods_take_arguments_by_position_and_name(shop: Running):
    assert call(shop, lambda env: env.AUTH.check("a")) == "a"
    assert call(shop, lambda env: env.AUTH.check("a", loud=True)) == "A"


def test_each_side_has_its_own_of_what_can_be_changed(shop: Running):
    mine = {"items": [1]}

    async def work(env: Env) -> tuple[Any, Any]:
        theirs = await env.AUTH.keep(mine)
        given = await env.AUTH.give()
        given["list"].append("mine")
        return theirs, await env.AUTH.give()

    theirs, given = call(shop, work)
    assert (mine, theirs) == ({"items": [1]}, {"items": [1], "kept": True})
    assert given == {"list": []}


def test_what_cannot_be_copied_is_named(shop: Running):
    with pytest.raises(TypeError, match="lock can't pass through a service binding"):
        call(shop, lambda env: env.AUTH.check(__import__("threading").Lock()))


def test_the_caller_catches_what_the_callee_raises_and_goes_on(shop: Running):
    async def work(env: Env) -> str:
        with pytest.raises(LookupError, match="nobody here"):
            await env.AUTH.fail()
        text: str = await env.AUTH.check("still here")
        return text

    assert call(shop, work) == "still here"


def test_an_entry_point_is_a_class_of_its_own(shop: Running):
    async def work(env: Env) -> tuple[str, str]:
        return await env.ADMIN.check("x"), await (await env.ADMIN.fetch(Request("http://a/"))).text()

    assert call(shop, work) == ("admin", "admin")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda env: env.AUTH.nothing(), "Default of auth/production has no method nothing"),
        (lambda env: env.AUTH.not_a_method(), "has no method not_a_method"),
        (lambda env: env.NOBODY.check("x"), "binding NOBODY: auth/production: there is no class Nobody"),
        (lambda env: env.NOBODY.fetch("http://x/"), "binding NOBODY: auth/production: there is no class Nobody"),
    ],
)
def test_what_is_not_there_is_named(shop: Running, ask: Any, said: str):
    async def work(env: Env) -> Any:
        return await ask(env)

    with pytest.raises(TypeError, match=said) as raised:
        call(shop, work)
    assert "Traceback" in readable(raised.value), "which line called it is told"


def test_private_names_are_no_methods(shop: Running):
    with pytest.raises(AttributeError, match="_secret begins with _"):
        call(shop, lambda env: env.AUTH._secret())


def test_a_sync_method_runs_beside_the_event_loop(shop: Running):
    assert call(shop, lambda env: env.AUTH.thread()) is True


def test_the_callee_knows_itself_and_the_request_it_belongs_to(shop: Running):
    assert call(shop, lambda env: env.AUTH.who(), Outer("r7")) == ["auth/production", "r7", 1, "id"]


def test_calls_at_the_same_time_do_not_take_each_other_for_themselves(shop: Running):
    async def work(env: Env) -> list[Any]:
        return await asyncio.gather(*(env.AUTH.who() for _ in range(50)), *(env.AUTH.check(n) for n in range(50)))

    found = call(shop, work)
    assert found == [["auth/production", "r1", 1, "id"]] * 50 + list(range(50))
    assert call(shop, lambda _: asyncio.sleep(0, current.get().part.place)) == "shop/production"


def test_a_circle_ends_with_an_error_that_names_the_chain(shop: Running):
    with pytest.raises(CallDepthExceeded, match=rf"more than {DEPTH} deep: shop/production → auth/production → .*… →"):
        call(shop, lambda env: env.AUTH.again())
    assert call(shop, lambda env: env.AUTH.check("alive")) == "alive"


def test_a_service_bound_to_itself_in_a_circle_ends_too(tmp_path: Path):
    itself = SHOP.replace("AUTH", "SELF")
    with running(tmp_path, shop=itself) as found, pytest.raises(CallDepthExceeded):
        call(found, lambda env: env.SELF.fetch(Request("http://a/")))


def test_a_request_makes_so_many_calls_and_no_more(shop: Running):
    async def work(env: Env) -> int:
        for count in range(SUBREQUESTS + 1):
            try:
                await env.AUTH.check("x")
            except TooManySubrequests:
                return count
        return -1

    assert call(shop, work) == SUBREQUESTS
    assert call(shop, lambda env: env.AUTH.check("another request")) == "another request"


def test_env_shows_names_never_values_and_cannot_be_changed(shop: Running):
    env = shop.handlers["auth/production"].env
    assert "ISSUER" in repr(env)
    assert "id" not in repr(env).replace("auth/production", "")
    assert (env["ISSUER"], "ISSUER" in env, sorted(env)) == ("id", True, ["ISSUER", "SHOP"])
    with pytest.raises(AttributeError, match="did you mean ISSUER"):
        _ = env.ISSUE
    with pytest.raises(AttributeError, match="can't be changed"):
        env.ISSUER = "other"


def test_version_metadata_says_which_version_runs(shop: Running):
    version = shop.front.env.VERSION
    assert (version.id, version.tag, version.timestamp) == ("shop/production@3", "v1", "2026-11-24T00:00:00.000Z")

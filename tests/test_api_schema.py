"""Requests made of the API's own document: whatever they hold, no answer is a bug."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
from apis import Team, team
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from svcctl.api.app import ROUTES
from svcctl.api.document import document
from svcctl.backend.messages import FRAMES, MANIFEST


def described() -> dict[str, Any]:
    """With bytes as the one kind of bytes that schemathesis can send."""
    text = msgspec.json.encode(document(ROUTES)).decode()
    for kind in (FRAMES, MANIFEST):
        text = text.replace(f'"{kind}"', '"application/octet-stream"')
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


EXAMPLES = int(os.environ.get("SVCCTL_SCHEMA_EXAMPLES", "6"))
"""A route; `make soak` sets more."""
ON_POSTGRES = "SVCCTL_SCHEMA_ON_POSTGRES" in os.environ
SCHEMA = schemathesis.openapi.from_dict(described())
OPERATIONS = {f"{found.ok().method} {found.ok().path}": found.ok() for found in SCHEMA.get_all_operations()}


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Team]:
    database = request.getfixturevalue("server").database() if ON_POSTGRES else None
    with team(tmp_path_factory.mktemp("schema"), database) as found:
        found.scene.deploy(shop="a1", auth="b1")
        yield found


@pytest.fixture(scope="module")
def holders(acme: Team) -> list[httpx.Client]:
    return [acme.holder("ada", "admin"), acme.holder("node", "runtime")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_is_a_bug(name: str, holders: list[httpx.Client]) -> None:
    operation = OPERATIONS[name]

    @settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True)
    @given(operation.as_strategy(), st.sampled_from(holders))
    def asked(case: schemathesis.Case, client: httpx.Client) -> None:
        given = case.as_transport_kwargs(base_url=str(client.base_url))
        headers = {key: value for key, value in given["headers"].items() if key.lower() == "content-type"}
        query = {**(given.get("params") or {})}
        if "timeout" in query or "after" in query:
            query["timeout"] = 0
        body = {key: given[key] for key in ("json", "data") if given.get(key) is not None}
        if isinstance(body.get("data"), bytes | str):
            body = {"content": body["data"]}
        answer = client.request(given["method"], given["url"], params=query, headers=headers, **body)
        assert answer.status_code < 500, (given, answer.text)
        assert answer.headers["x-request-id"]
        if answer.status_code >= 400:
            assert set(answer.json()) >= {"error"} or answer.json().keys() == {"missing"}

    asked()


def test_the_store_is_sound_after_all_that(acme: Team) -> None:
    assert acme.store.verify().problems == ()

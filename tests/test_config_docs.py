"""docs/services-toml.md says what the loader does."""

import re
import tomllib
from pathlib import Path

from svcctl.config import load_text
from svcctl.config.project import ENVIRONMENT, LIMITS, PROJECT, SERVICE
from svcctl.config.settings import BINDING
from svcctl.model import Limits

PAGE = (Path(__file__).parent.parent / "docs" / "services-toml.md").read_text()
EXAMPLE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]


def test_the_annotated_example_loads():
    project = load_text(EXAMPLE)
    assert project.services["shop"].blocks["production"].protected
    assert "IMAGES" not in project.services["shop"].blocks["staging"].layer.bindings


def test_the_example_uses_every_key():
    content = tomllib.loads(EXAMPLE)
    services = content["services"].values()
    environments = [each for service in services for each in service.get("environments", {}).values()]
    bindings = [binding for table in (*services, *environments) for binding in table.get("bindings", {}).values()]
    assert content.keys() == set(PROJECT)
    assert content["limits"].keys() == set(LIMITS)
    assert {key for service in services for key in service} == set(SERVICE)
    assert {key for environment in environments for key in environment} == set(ENVIRONMENT)
    assert {key for binding in bindings for key in binding} == set(BINDING)


def test_the_example_shows_the_default_limits():
    assert load_text(EXAMPLE).limits == Limits()


def test_the_reference_describes_every_key():
    described = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE))))
    assert {*PROJECT, *SERVICE, *ENVIRONMENT, *BINDING} <= described

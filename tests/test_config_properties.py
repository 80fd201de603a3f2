"""Random projects, written in every way that TOML lets people write them."""

import json
import tomllib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svcctl.config import edit, load_text
from svcctl.config.positions import Positions
from svcctl.model import Binding

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)

COMMENT = '# it\'s = "a [comment]"'

names = st.from_regex(r"[a-z]{1,3}(-?[a-z0-9]{1,2}){0,2}", fullmatch=True)
variables = st.from_regex(r"[A-Z][A-Z0-9_]{0,3}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"""', "'''", "a\\", "#", "]}"]
)
scalars = texts | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
bindings = st.builds(
    lambda kind, target, where: {kind: target} | ({"environment": where} if where else {}),
    st.sampled_from(["kv", "bucket"]),
    names,
    st.none() | names,
) | st.just({"version_metadata": True})


@st.composite
def tables(draw: st.DrawFn, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """The vars, secrets and bindings of a service, or of an environment of the service `base`."""
    taken = {name: kind for kind in ("vars", "secrets", "bindings") for name in (base or {}).get(kind, ())}
    found: dict[str, Any] = {"vars": {}, "secrets": [], "bindings": {}}
    for name in draw(st.lists(variables | st.sampled_from(sorted(taken) or ["A"]), max_size=4, unique=True)):
        kind = taken.get(name) or draw(st.sampled_from(sorted(found)))
        match kind:
            case "secrets":
                found[kind].append(name)
            case "vars":
                found[kind][name] = draw(values)
            case _:
                found[kind][name] = draw(bindings)
    unset = [name for name in taken if not any(name in table for table in found.values()) and draw(st.booleans())]
    return {key: value for key, value in (found | {"unset": unset}).items() if value}


@st.composite
def projects(draw: st.DrawFn) -> dict[str, Any]:
    """services.toml as plain values."""
    services = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        service = {"main": f"{name}/worker.py"} | draw(tables())
        environments = {each: draw(tables(service)) for each in draw(st.lists(names, max_size=2, unique=True))}
        services[name] = service | ({"environments": environments} if environments else {})
    return {"project": draw(names), "services": services}


# ---- values as TOML, in a drawn style


def document(draw: st.DrawFn, content: dict[str, Any], path: str = "") -> str:
    """`content` as the body of the table `path`; its tables are inline, dotted, or below it with headers."""
    body, below = "", ""
    for key, value in content.items():
        if isinstance(value, dict) and draw(st.booleans()):
            header = f"{path}.{quoted(draw, key)}".lstrip(".")
            below += f"\n[ {header} ]  {COMMENT}\n{document(draw, value, header)}"
        else:
            body += pairs(draw, quoted(draw, key), value)
    return body + below


def pairs(draw: st.DrawFn, key: str, value: Any) -> str:
    if isinstance(value, dict) and value and draw(st.booleans()):
        return "".join(pairs(draw, f"{key} . {quoted(draw, inner)}", item) for inner, item in value.items())
    return f"{key} = {literal(draw, value)}{draw(st.sampled_from(['', '  ' + COMMENT]))}\n"


def quoted(draw: st.DrawFn, key: str) -> str:
    if key.isascii() and key.replace("-", "").replace("_", "").isalnum() and draw(st.booleans()):
        return key
    return basic(key)


def basic(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def literal(draw: st.DrawFn, value: Any) -> str:
    match value:
        case str():
            forms = [basic(value), f'""{basic(value)}""']
            if value.isprintable() and "'" not in value:
                forms += [f"'{value}'", f"'''\n{value}'''"]
            return draw(st.sampled_from(forms))
        case list():
            gap = draw(st.sampled_from([" ", f" {COMMENT}\n  "]))
            return "[" + "".join(f"{gap}{literal(draw, item)},{gap}" for item in value) + "]"
        case dict():
            inner = ", ".join(f"{quoted(draw, key)} = {literal(draw, item)}" for key, item in value.items())
            return f"{{ {inner} }}"
        case bool():
            return str(value).lower()
    return repr(value)


@st.composite
def files(draw: st.DrawFn) -> str:
    content = draw(projects())
    text = document(draw, content)
    assert tomllib.loads(text) == content
    return text


# ---- what holds for all of them


@patient
@given(files())
def test_a_project_loads_to_what_it_says(text):
    content = tomllib.loads(text)
    project = load_text(text)
    assert project.services.keys() == content["services"].keys()
    for name, service in content["services"].items():
        assert said(project.services[name].base) == effective(service, {})
        for environment, own in service.get("environments", {}).items():
            assert said(project.services[name].blocks[environment]) == effective(service, own)


def said(block) -> dict[str, Any]:
    return {"vars": block.layer.vars, "secrets": list(block.secrets), "bindings": block.layer.bindings}


def effective(service: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Inheritance by brute force: everything the service says, then everything the environment says."""
    every = {("vars", name): value for name, value in service.get("vars", {}).items()}
    every |= {("secrets", name): None for name in service.get("secrets", ())}
    every |= {("bindings", name): Binding(**value) for name, value in service.get("bindings", {}).items()}
    every = {key: value for key, value in every.items() if key[1] not in own.get("unset", ())}
    every |= {("vars", name): value for name, value in own.get("vars", {}).items()}
    every |= {("secrets", name): None for name in own.get("secrets", ())}
    every |= {("bindings", name): Binding(**value) for name, value in own.get("bindings", {}).items()}
    return {
        "vars": {name: value for (kind, name), value in every.items() if kind == "vars"},
        "secrets": sorted(name for kind, name in every if kind == "secrets"),
        "bindings": {name: value for (kind, name), value in every.items() if kind == "bindings"},
    }


@patient
@given(files())
def test_every_key_and_value_is_found_where_it_is_written(text):
    positions = Positions(text)
    written = {key.path: text[key.start : key.end] for key in positions.keys}
    content = tomllib.loads(text)
    assert set(every_path(content)) == written.keys()
    for path, token in written.items():
        assert isinstance(path[-1], int) or tomllib.loads(f"{token} = 1") == {path[-1]: 1}
    for path, (start, end) in positions.values.items():
        assert tomllib.loads(f"value = {text[start:end]}")["value"] == at(content, path)


def every_path(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [deeper for key, item in inner for deeper in ((*path, key), *every_path(item, (*path, key)))]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


@patient
@given(files(), st.data())
def test_an_edit_changes_what_it_says_and_nothing_else(text, data):
    content = tomllib.loads(text)
    service = data.draw(st.sampled_from(sorted(content["services"])))
    environment = data.draw(st.none() | names)
    table = content["services"][service]
    if environment:
        table = table.setdefault("environments", {}).setdefault(environment, {})
    match data.draw(st.sampled_from(["vars", "binding", "routes", "service", "environment"])):
        case "vars":
            new = {f"{name}__NEW": value for name, value in data.draw(st.dictionaries(variables, values)).items()}
            edited = edit.set_vars(text, service, new, environment)
            table["vars"] = table.get("vars", {}) | new
        case "binding":
            edited = edit.bind(text, service, "NEW", Binding(kv="new", environment="other"), environment)
            table["bindings"] = table.get("bindings", {}) | {"NEW": {"kv": "new", "environment": "other"}}
        case "routes":
            environment = environment or "production"
            edited = edit.add_routes(text, service, environment, ["a.com/*", "b.com/*"])
            table = content["services"][service].setdefault("environments", {}).setdefault(environment, {})
            table["routes"] = ["a.com/*", "b.com/*"]
        case "service":
            edited = edit.add_service(text, "new-service", "new/worker.py")
            content["services"]["new-service"] = {"main": "new/worker.py"}
        case _:
            edited = edit.add_environment(text, "new-one", [service])
            content["services"][service].setdefault("environments", {})["new-one"] = {}
    assert without_empty(tomllib.loads(edited)) == without_empty(content)
    assert edited.count(COMMENT) == text.count(COMMENT)
    load_text(edited)


def without_empty(value: Any) -> Any:
    """An empty table of vars says nothing."""
    if not isinstance(value, dict):
        return value
    inner = {key: without_empty(item) for key, item in value.items()}
    return {key: item for key, item in inner.items() if item != {}}


@patient
@given(files(), st.data())
def test_renaming_an_environment_there_and_back_gives_the_same_text(text, data):
    environments = {name for service in load_text(text).services.values() for name in service.blocks}
    old = data.draw(st.sampled_from(sorted(environments) or ["production"]))
    renamed = edit.rename_environment(text, old, "brand-new")
    services = load_text(text).services
    assert {name: service.blocks.keys() for name, service in load_text(renamed).services.items()} == {
        name: {"brand-new" if each == old else each for each in service.blocks} for name, service in services.items()
    }
    assert tomllib.loads(edit.rename_environment(renamed, "brand-new", old)) == tomllib.loads(text)

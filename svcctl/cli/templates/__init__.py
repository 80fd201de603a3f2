"""What `svcctl init` begins with. The sources are text files here: linters and type checkers read them as what they
become, files of someone else's project."""

from importlib.resources import files

from svcctl.config import edit
from svcctl.model import Binding, Model


class Begin(Model):
    """One service of a template."""

    name: str
    source: str
    """The file in this folder."""
    main: str = "worker.py"


TEMPLATES: dict[str, tuple[Begin, ...]] = {
    "hello": (Begin(name="hello", source="hello.py.txt"),),
    "services": (Begin(name="shop", source="shop.py.txt"), Begin(name="auth", source="auth.py.txt")),
    "asgi": (Begin(name="app", source="asgi.py.txt", main="app.py:app"),),
}


def sources(services: tuple[Begin, ...]) -> dict[str, str]:
    """By path in the project."""
    return {f"{each.name}/{each.main.partition(':')[0]}": _read(each.source) for each in services}


def services_toml(project: str, template: str, services: tuple[Begin, ...]) -> str:
    first = services[0].name
    text = edit.new_project(project, {each.name: f"{each.name}/{each.main}" for each in services})
    if template == "hello":
        text = edit.set_vars(text, first, {"GREETING": "Hello"})
    if template == "services":
        text = edit.bind(text, first, "AUTH", Binding(service=services[1].name))
    return text


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")

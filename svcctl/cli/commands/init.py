import re
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from msgspec.structs import replace

from svcctl import config, names
from svcctl.cli.context import STORE, Context
from svcctl.cli.output import Block, Lines, Note, Success
from svcctl.errors import Refused, UsageError
from svcctl.model import Model

_IGNORED = (f"{STORE}/", f"{STORE}.vars")


class Initialised(Model):
    folder: str
    project: str
    services: tuple[str, ...]
    written: tuple[str, ...]
    left: tuple[str, ...]
    """Files that were there already."""
    next: tuple[str, ...]


def init(
    context: Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is not there.")] = Path(),
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The project's; else the folder's.")
    ] = None,
    template: Annotated[
        str, typer.Option("--template", metavar="NAME", help="hello, services (two, one calls the other) or asgi.")
    ] = "hello",
    service: Annotated[str | None, typer.Option("--service", metavar="NAME", help="Of the first service.")] = None,
) -> None:
    """Start a project: write services.toml and a first service.

    In a new folder, or in one that holds code already: no file is ever overwritten."""
    from svcctl.cli import templates

    place = context.path(folder)
    if template not in templates.TEMPLATES:
        known = templates.TEMPLATES
        raise UsageError(f"there is no template {template!r}", hint=names.did_you_mean(template, known))
    _refuse_existing(place)
    project = _project_name(place, name)
    first, *others = templates.TEMPLATES[template]
    services = (replace(first, name=_checked("--service", service or first.name)), *others)
    if service in {each.name for each in others}:
        raise UsageError(f"--service {service}: the template has another service of that name")
    text = templates.services_toml(project, template, services)
    written, left = _write_missing(place, templates.sources(services))
    written += _ignore(place)
    config_written, config_left = _write_missing(place, {config.NAME: text})
    answer = Initialised(
        folder=str(place),
        project=project,
        services=tuple(each.name for each in services),
        written=(*config_written, *written),
        left=(*config_left, *left),
        next=((f"cd {quote(str(folder))}",) if folder != Path() else ()) + ("svcctl deploy",),
    )
    context.show(answer, _blocks(answer, place))


def _refuse_existing(place: Path) -> None:
    if (place / config.NAME).exists():
        raise Refused(
            f"{place} is a project already: it has a {config.NAME}",
            hint=f"a further service is a [services.NAME] table with its main in {config.NAME}",
            next="svcctl deploy",
        )


def _project_name(place: Path, name: str | None) -> str:
    if name is not None:
        return _checked("--name", name)
    slug = re.sub(r"[^a-z0-9]+", "-", place.resolve().name.lower()).strip("-")[: names.NAME_LENGTH].rstrip("-")
    if names.check_name(slug):
        raise UsageError(
            f"the folder's name, {place.resolve().name!r}, gives no project name",
            next=f"svcctl init {quote(str(place))} --name NAME",
        )
    return slug


def _checked(option: str, name: str) -> str:
    if wrong := names.check_name(name):
        raise UsageError(f"{option} {name!r}: it {wrong}")
    return name


def _write_missing(place: Path, contents: dict[str, str]) -> tuple[list[str], list[str]]:
    """What was written, and what was there already and stays."""
    written, left = [], []
    for path, text in contents.items():
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            left.append(path)
        else:
            written.append(path)
    return written, left


def _ignore(place: Path) -> list[str]:
    """The store and local secrets stay out of git."""
    file = place / ".gitignore"
    present = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
    lacking = [line for line in _IGNORED if line not in present.splitlines()]
    if not lacking:
        return []
    gap = "\n" if present and not present.endswith("\n") else ""
    with file.open("a", encoding="utf-8") as ignored:
        ignored.write(gap + "".join(f"{line}\n" for line in lacking))
    return [file.name]


def _blocks(answer: Initialised, place: Path) -> Iterator[Block]:
    yield Success(f"project {answer.project}: {', '.join(answer.services)}")
    yield Lines([f"  wrote {path}" for path in answer.written])
    for path in answer.left:
        yield Note(f"{path} was there already and was left alone")
    around = config.find(place.resolve().parent)
    if around:
        yield Note(f"this folder lies inside another project, that of {around}; here the new one is used")
    yield Lines([f"next: {' && '.join(answer.next)}"])

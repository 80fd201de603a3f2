"""Whether what services.toml names is there."""

from collections.abc import Iterator
from pathlib import Path as FilePath

from svcctl.config import file
from svcctl.config.positions import Path, Positions, dotted
from svcctl.errors import ConfigError
from svcctl.model import Project, Source


def check_present(path: FilePath, project: Project) -> None:
    """Raises ConfigError with each entry file and folder that is not there. `path` is the file of `project`."""
    absent = [
        (("services", name, *below), what)
        for name, service in project.services.items()
        if service.source
        for below, what in _absent(path.parent, service.source)
    ]
    if absent:
        positions = Positions(file.read(path))
        raise ConfigError([_line(path, positions, *each) for each in absent])


def _absent(folder: FilePath, source: Source) -> Iterator[tuple[Path, str]]:
    main = source.main.partition(":")[0]
    if not (folder / main).is_file():
        yield ("main",), f"there is no file {main}"
    for index, each in enumerate(source.with_):
        if not (folder / each).is_dir():
            yield ("with", index), f"there is no folder {each}"


def _line(path: FilePath, positions: Positions, place: Path, what: str) -> str:
    return f"{path.name}:{positions.line(place)}: {dotted(place)}: {what}"

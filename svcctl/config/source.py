"""Where a service's code is: `main`, `root`, `with`, in one normal form and inside the project."""

import posixpath
import re

from svcctl.config.table import Table
from svcctl.model import Source

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_PYTHON = re.compile(r"3\.\d{1,3}")
_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def read(table: Table, python: str | None) -> Source | None:
    """None if there is no usable `main`; `python` is the project's."""
    main = _main(table)
    root = _path(table, "root")
    source = Source(
        main=main or "",
        root=root or posixpath.dirname(_file(main or "")) or ".",
        python=read_python(table) or python,
        with_=_folders(table),
        include=tuple(pattern for _, pattern in table.texts("include")),
        exclude=tuple(pattern for _, pattern in table.texts("exclude")),
    )
    if main and source.root != "." and not main.startswith(source.root + "/"):
        table.wrong(f"{_file(main)} is not inside root, {source.root}", "main")
    return source if main else None


def read_python(table: Table) -> str | None:
    if isinstance(table.content.get("python"), float):  # 3.10 without quotes is the number 3.1
        table.wrong('must be a string, in quotes: python = "3.11"', "python")
        return None
    version = table.text("python")
    if version and not _PYTHON.fullmatch(version):
        table.wrong(f"{version} is no Python version of the form 3.11", "python")
    return version


def _file(main: str) -> str:
    return main.partition(":")[0]


def _main(table: Table) -> str | None:
    if table.lacks("main"):
        table.wrong(
            f'is missing; it names the file that starts the service: main = "{table.path[-1]}/worker.py"', "main"
        )
        return None
    text = table.text("main")
    if text is None or not (path := _inside(table, text, "main")):
        return None
    file, colon, name = path.partition(":")
    if not file.endswith(".py") or (colon and not _OBJECT.fullmatch(name)):
        table.wrong(f"{text} is no Python file such as worker.py, or worker.py:app to name an object", "main")
        return None
    return path


def _path(table: Table, key: str) -> str | None:
    text = table.text(key)
    return _inside(table, text, key) if text else None


def _folders(table: Table) -> tuple[str, ...]:
    folders = []
    for index, text in table.texts("with"):
        folder = _inside(table, text, "with", index)
        if folder == ".":
            table.wrong("must name a folder below the project's: it is imported by its name", "with", index)
        elif folder:
            folders.append(folder)
    return tuple(folders)


def _inside(table: Table, text: str, *below: str | int) -> str | None:
    """The path without `./`, `x/..` and a closing slash, or a problem."""
    if text.startswith("/") or _DRIVE.match(text):
        wrong = "must be relative to the folder of services.toml"
    elif "\\" in text:
        wrong = "must have / between folders, not \\"
    else:
        normal = posixpath.normpath(text)
        if normal.partition("/")[0] != "..":
            return normal
        wrong = "leaves the folder of services.toml"
    table.wrong(f"{text} {wrong}", *below)
    return None

"""Writes services.toml as its author would have: text in, text out; comments and layout stay.

An edit is data: which key paths get which values. It is made twice, in the plain values and in tomlkit's document, and
the text is handed back only if it reads as the plain values do. So a shape of the file that tomlkit can't edit is a
refusal with what to type by hand, never a file that says something else. The text that comes in must load.
"""

import copy
import os
import secrets
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any, BinaryIO

import tomlkit
from tomlkit.container import OutOfOrderTableProxy
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from svcctl import names
from svcctl.config import file
from svcctl.config.positions import Path, Positions, dotted
from svcctl.config.project import load_text
from svcctl.config.settings import BINDING
from svcctl.errors import ConfigError, NotFound, Refused, UsageError
from svcctl.model import Binding, Value

_GONE = object()
"""As a value of an edit: the key is taken out."""

_Edit = dict[Path, Any]
_Create = Callable[[Any, Path, int, Any], None]


def new_project(name: str, services: Mapping[str, str]) -> str:
    """The first services.toml of a project; `services` maps names to their `main`."""
    text = (
        f'project = "{name}"\n'
        'domain = "localhost"              # hostnames: shop.localhost, staging--shop.localhost\n'
        'default_environment = "staging"   # where `svcctl deploy` goes\n'
    )
    for service, main in services.items():
        text += f'\n[services.{service}]\nmain = "{main}"\n'
    load_text(text)
    return text


def add_service(text: str, name: str, main: str) -> str:
    if name in _services(text):
        raise Refused(f"services.toml has a service {name} already")
    return _edited(text, {("services", name): {"main": main}})


def add_environment(text: str, environment: str, services: Iterable[str]) -> str:
    """Gives each of `services` an empty table of that name, where it has none."""
    tables = [_table(text, service, environment) for service in services]
    values = file.parse(text)
    return _edited(text, {table: {} for table in tables if _at(values, table, None) is None})


def rename_environment(text: str, old: str, new: str) -> str:
    """In every service's tables, `default_environment`, and the bindings that name `old` of what this file holds."""
    services = _services(text)
    for name, service in services.items():
        if {old, new} <= service.get("environments", {}).keys():
            raise Refused(f"{name} has both [services.{name}.environments.{old}] and one for {new}", hint="merge them")
    lines = text.replace("\r\n", "\n")
    positions = Positions(lines)
    spans = [positions.values[path] for path in _mentions(file.parse(lines), old)]
    quoted = [(start, end, f'"{new}"') for start, end in spans]
    bare = [(key.start, key.end, new) for key in positions.keys if _is_environment(key.path, old)]
    for start, end, replacement in sorted(quoted + bare, reverse=True):
        lines = lines[:start] + replacement + lines[end:]
    return _checked(text, lines)


def bind(text: str, service: str, name: str, binding: Binding, environment: str | None = None) -> str:
    value = {key: target for key in BINDING if (target := getattr(binding, key)) not in (None, False)}
    return _edited(text, {(*_table(text, service, environment), "bindings", name): value})


def unbind(text: str, service: str, name: str, environment: str | None = None) -> str:
    table = _table(text, service, environment)
    bound = _at(file.parse(text), (*table, "bindings"), {})
    if name not in bound:
        raise NotFound(f"[{dotted(table)}] has no binding {name}", hint=names.did_you_mean(name, bound))
    return _edited(text, {(*table, "bindings", name): _GONE})


def set_vars(text: str, service: str, vars: Mapping[str, Value], environment: str | None = None) -> str:
    table = _table(text, service, environment)
    return _edited(text, {(*table, "vars", name): value for name, value in vars.items()})


def add_routes(text: str, service: str, environment: str, patterns: Iterable[str]) -> str:
    path = (*_table(text, service, environment), "routes")
    routes = _at(file.parse(text), path, [])
    return _edited(text, {path: [*routes, *(route for route in dict.fromkeys(patterns) if route not in routes)]})


def remove_routes(text: str, service: str, environment: str, patterns: Iterable[str]) -> str:
    table = _table(text, service, environment)
    routes, gone = _at(file.parse(text), (*table, "routes"), []), set(patterns)
    for route in sorted(gone.difference(routes)):
        raise NotFound(f"[{dotted(table)}] has no route {route}", hint=names.did_you_mean(route, routes))
    return _edited(text, {(*table, "routes"): [route for route in routes if route not in gone]})


def write(path: FilePath, text: str) -> None:
    """Atomic and durable; keeps the file's mode, and the link where `path` is one."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with _created(temporary) as new:
            new.write(text.encode())
            new.flush()
            if target.exists():
                os.fchmod(new.fileno(), stat.S_IMODE(target.stat().st_mode))
            os.fsync(new.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise Refused(f"{path} can't be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _created(path: FilePath) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")


def _sync_folder(folder: FilePath) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _services(text: str) -> dict[str, Any]:
    services: dict[str, Any] = file.parse(text).get("services", {})
    return services


def _table(text: str, service: str, environment: str | None) -> Path:
    services = _services(text)
    if service not in services:
        raise NotFound(f"services.toml has no service {service}", hint=names.did_you_mean(service, services))
    return ("services", service, "environments", environment) if environment else ("services", service)


def _at(values: Any, path: Path, default: Any) -> Any:
    for part in path:
        if part not in values:
            return default
        values = values[part]
    return values


def _is_environment(path: Path, name: str) -> bool:
    return len(path) == 4 and path[0] == "services" and path[2:] == ("environments", name)


def _mentions(values: dict[str, Any], environment: str) -> list[Path]:
    """Where the file names one of its own environments as a value."""
    found: list[Path] = [("default_environment",)] if values.get("default_environment") == environment else []
    for name, service in values["services"].items():
        tables: dict[Path, Any] = {("services", name): service}
        for each, table in service.get("environments", {}).items():
            tables["services", name, "environments", each] = table
        for path, table in tables.items():
            for binding, bound in table.get("bindings", {}).items():
                ours = bound.get("service", name) in values["services"]
                if ours and bound.get("environment") == environment:
                    found.append((*path, "bindings", binding, "environment"))
    return found


# ---- one edit, made twice


def _edited(text: str, edit: _Edit) -> str:
    plain = text.replace("\r\n", "\n")
    wanted = file.parse(plain)
    for path, value in edit.items():
        _set(wanted, path, value)
    for create in (_create_tables, _create_inline):
        edited = _attempt(plain, edit, create)
        if edited is not None and _with_emptied(tomllib.loads(edited), edit) == wanted:
            return _checked(text, edited)
    by_hand = "; ".join(f"{dotted(path)} = {_shown(value)}" for path, value in edit.items())
    raise Refused("services.toml has a shape that svcctl can't edit", hint=f"please write it yourself: {by_hand}")


def _with_emptied(values: dict[str, Any], edit: _Edit) -> dict[str, Any]:
    """The last dotted key of a table that goes takes its table along; that says the same as an empty one."""
    for *above, table, _ in (path for path, value in edit.items() if value is _GONE and len(path) > 1):
        at: Any = values
        for part in above:
            at = at.get(part, {})
        at.setdefault(table, {})
    return values


def _checked(before: str, after: str) -> str:
    """The edited text with the line ends of the text before, if it loads."""
    try:
        load_text(after)
    except ConfigError as error:
        raise UsageError(f"with this edit services.toml would be wrong:\n{error.message}") from None
    return after.replace("\n", "\r\n") if "\r\n" in before else after


def _shown(value: Any) -> str:
    return "(remove this)" if value is _GONE else _literal(value)


def _set(values: dict[str, Any], path: Path, value: Any) -> None:
    *tables, key = path
    for part in tables:
        values = values.setdefault(str(part), {})
    if value is _GONE:
        del values[str(key)]
    else:
        values[str(key)] = copy.deepcopy(value)


def _attempt(text: str, edit: _Edit, create: _Create) -> str | None:
    try:
        document = tomlkit.parse(text)
        for path, value in edit.items():
            _write(document, path, value, create)
        return _one_end(tomlkit.dumps(document), text)
    except TOMLKitError:
        return None


def _one_end(edited: str, text: str) -> str:
    """New tables bring an empty line of their own, which the end of the file has no use for."""
    return edited if text.endswith("\n\n") else edited.rstrip("\n") + "\n"


def _write(at: Any, path: Path, value: Any, create: _Create) -> None:
    for depth, part in enumerate(path[:-1]):
        if part not in at:
            create(at, path, depth, value)
            return
        if isinstance(at[part], InlineTable) and "\n" not in at[part].as_string():
            whole = at[part].unwrap()
            _set(whole, path[depth + 1 :], value)
            at[part] = _item(whole)  # tomlkit's own insertion runs the items together: `{ A = 1,B = 2}`
            return
        at = at[part]
    key = path[-1]
    if value is _GONE:
        del at[key]
    elif key not in at:
        create(at, path, len(path) - 1, value)
    elif isinstance(value, list):
        _become(at[key], value)
    else:
        at[key] = _item(value)


def _become(array: Any, wanted: list[Any]) -> None:
    """Item by item, so that the comments of those that stay do too."""
    for index in reversed(range(len(array))):
        if array[index] not in wanted:
            del array[index]
    for item in wanted[len(array) :]:
        array.append(item)


def _create_tables(at: Any, path: Path, depth: int, value: Any) -> None:
    """Puts what `path` lacks, from `depth` on, into `at`: a [table] for services and environments, else dotted keys."""
    if isinstance(at, InlineTable | OutOfOrderTableProxy):  # neither can take a dotted key
        _create_inline(at, path, depth, value)
    elif _is_header(path, depth):
        table = tomlkit.table()
        _fill(table, path, depth, value)
        table.add(tomlkit.nl())
        at[path[depth]] = table
    elif path[depth] == "environments" and depth == 2:
        at["environments"] = tomlkit.table(is_super_table=True)
        _create_tables(at["environments"], path, depth + 1, value)
    else:
        at.append(tomlkit.key([str(part) for part in path[depth:]]), _item(value))


def _fill(table: Any, path: Path, depth: int, value: Any) -> None:
    if path[depth + 1 :]:
        _create_tables(table, path, depth + 1, value)
    else:
        for key, item in value.items():
            table[key] = _item(item)


def _is_header(path: Path, depth: int) -> bool:
    return depth == 1 or (depth == 3 and path[2] == "environments")


def _create_inline(at: Any, path: Path, depth: int, value: Any) -> None:
    for part in reversed(path[depth + 1 :]):
        value = {part: value}
    at[path[depth]] = _item(value)


def _item(value: Any) -> Any:
    return tomlkit.value(_literal(value))


def _literal(value: Any) -> str:
    """On one line, spaced as people write it."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{tomlkit.key(key).as_string()} = {_literal(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    written: str = tomlkit.item(value).as_string()
    return written

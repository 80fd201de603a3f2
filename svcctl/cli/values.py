"""Values of vars and secrets as people give them: arguments, files, standard input, a prompt."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from svcctl import names
from svcctl.cli import consent
from svcctl.cli.context import Context
from svcctl.errors import ConsentNeeded, NotFound, Refused, UsageError
from svcctl.model import Limits, Sealed, Value
from svcctl.sealing import VALUE_SIZE, SecretValue

_EMPTY = re.compile(r"(?:[ \t\r]*(?:#[^\n]*)?\n)*(?:[ \t\r]*(?:#[^\n]*)?\Z)?")
_ENTRY = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[^=\s#]+)[ \t]*=[ \t]*
    (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>(?!["'])(?:(?![ \t]\#)[^\n])*))
    (?:[ \t]+\#[^\n]*|[ \t\r]*)(?:\n|\Z)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


# ---- vars


def assignments(context: Context, arguments: Sequence[str]) -> dict[str, Value]:
    """`NAME=text`, or `NAME:=JSON` for any other value. The last of several for one name counts."""
    found: dict[str, Value] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise UsageError(
                f"{argument!r} sets nothing", hint="NAME=TEXT, or NAME:=JSON for numbers, lists and tables"
            )
        if name.endswith(":"):
            found[_named(name[:-1])] = checked(context, name[:-1], _parsed(name[:-1], text))
        else:
            found[_named(name)] = checked(context, name, text)
    return found


def _named(name: str) -> str:
    if wrong := names.check_variable(name):
        raise UsageError(f"{name!r} {wrong}")
    return name


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(
            f"{name}:={text[:60]}: is not JSON ({error})", hint='a text in JSON stands in quotes: N:="a"'
        ) from None


def checked(context: Context, name: str, value: Any) -> Value:
    """As the rules of services.toml have it: no null, no NaN, integers within 2^53, not beyond `limits.var_size`."""
    from svcctl import config

    if value is None:
        raise UsageError(f"{name}: null is no value of a var", next=f"svcctl vars unset {name}")
    limits = context.project.limits if context.file else Limits()
    try:
        for below, wrong in config.check_value(value, limits.var_size):
            raise UsageError(f"{'.'.join(map(str, (name, *below)))}: {wrong}")
    except UnicodeEncodeError:
        raise UsageError(f"{name}: its value is not valid UTF-8") from None
    number: Value = value
    return number


# ---- files


def read_pairs(context: Context, path: Path) -> dict[str, Any]:
    """A .env file (values are text) or a JSON object, told apart by their first character. `-` is standard input."""
    try:
        text = context.read(path).decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {error}") from None
    return _json_pairs(path, text) if text.lstrip().startswith("{") else _env_pairs(path, text)


def _json_pairs(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: is not JSON ({error.msg})") from None
    return {_named(str(name)): value for name, value in found.items()}


def _env_pairs(path: Path, text: str) -> dict[str, Any]:
    """A quoted value may go over several lines. Errors name the line alone: what it holds may be secret."""
    found: dict[str, Any] = {}
    at = _EMPTY.match(text).end()  # type: ignore[union-attr]  # it matches anywhere
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise UsageError(f"{path}:{line}: must be NAME=VALUE; a quote must be closed, and its line end there")
        if wrong := names.check_variable(entry["name"]):
            raise UsageError(f"{path}:{line}: the name {wrong}")
        found[entry["name"]] = _value(entry)
        at = _EMPTY.match(text, entry.end()).end()  # type: ignore[union-attr]
    return found


def _value(entry: re.Match[str]) -> str:
    if entry["double"] is not None:
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), entry["double"])
    if entry["single"] is not None:
        return entry["single"]
    return entry["bare"].strip()


# ---- secrets


def secret(context: Context, name: str, *, raw: bool) -> SecretValue:
    """Asked for without echo on a terminal, else standard input to its end; one closing newline is dropped."""
    if consent.can_ask(context):
        return _fit(name, _as_bytes(name, consent.ask_secret(context, name)))
    if sys.stdin.isatty():
        raise ConsentNeeded(f"{name} has no value and nobody can be asked", hint="give the value on standard input")
    value = sys.stdin.buffer.read(VALUE_SIZE + 3)
    if not raw:
        value = value.removesuffix(b"\r\n") if value.endswith(b"\r\n") else value.removesuffix(b"\n")
    if not value:
        raise UsageError(f"{name}: its value is empty", next=f"{consent.again(context, '')} < FILE")
    return _fit(name, value)


def _fit(name: str, value: bytes) -> SecretValue:
    if len(value) > VALUE_SIZE:
        raise UsageError(f"{name}: its value has more than {VALUE_SIZE} bytes, which is the limit")
    if not value:
        raise UsageError(f"{name}: its value is empty")
    return SecretValue(value)


def _as_bytes(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name}: its value is not valid UTF-8") from None


def secrets_of(context: Context, path: Path) -> dict[str, SecretValue]:
    found = {}
    for name, value in read_pairs(context, path).items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        found[name] = _fit(f"{path}: {name}", _as_bytes(name, text))
    return found


def seal(
    context: Context, services: Iterable[str], environment: str, secrets: dict[str, SecretValue]
) -> tuple[Sealed, ...]:
    """For each service: the only place from which values leave this process, sealed."""
    backend = context.new_backend()
    return tuple(
        backend.seal(service, environment, name, value.reveal())
        for service in services
        for name, value in secrets.items()
    )


def for_deploy(
    context: Context, services: Sequence[str], environment: str, file: Path | None, *, ask: bool
) -> tuple[Sealed, ...]:
    """What a deploy sets along: from the file, each name for the services that want it; on a terminal, what is
    missing."""
    given = secrets_of(context, file) if file else {}
    wanted = {service: context.project.services[service].block(environment).secrets for service in services}
    if unknown := sorted(set(given) - {name for names_of in wanted.values() for name in names_of}):
        raise Refused(
            f"{file}: no service of this deploy lists secret {unknown[0]}",
            hint="list it under `secrets` in services.toml, or set it with `svcctl secrets set`",
        )
    sealed: list[Sealed] = []
    for service, names_of in wanted.items():
        mine = {name: given[name] for name in names_of if name in given}
        if ask and consent.can_ask(context):
            for name in _missing(context, service, environment):
                if name not in mine:
                    given[name] = mine[name] = SecretValue(consent.ask_secret(context, name))
        if mine:
            sealed += seal(context, (service,), environment, mine)
    return tuple(sealed)


def _missing(context: Context, service: str, environment: str) -> list[str]:
    declared = context.project.services[service]
    backend = context.new_backend()
    try:
        head = backend.environment(service, environment)
        known = backend.settings_of(head).secrets if head.head else {}
    except NotFound:
        known = {}
    return [name for name in declared.block(environment).secrets if name not in known and name not in declared.optional]

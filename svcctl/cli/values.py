"""Values of vars and secrets as people give them: arguments, files, standard input, a prompt."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from svcctl import names
from svcctl.cli import consent
from svcctl.cli.context import Context
from svcctl.errors import ConsentNeeded, NotFound, Refused, UsageError
from svcctl.model import Sealed, Value
from svcctl.sealing import SecretValue

VALUE_SIZE = 64 * 1024
"""Bytes of one secret or var."""
_EXACT = 2**53


# ---- vars


def assignments(arguments: Sequence[str]) -> dict[str, Value]:
    """`NAME=text`, or `NAME:=JSON` for any other value."""
    found: dict[str, Value] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise UsageError(
                f"{argument!r} sets nothing", hint="NAME=TEXT, or NAME:=JSON for numbers, lists and tables"
            )
        if name.endswith(":"):
            found[_named(name[:-1])] = json_value(name[:-1], text)
        else:
            found[_named(name)] = _small(name, text)
    return found


def _named(name: str) -> str:
    if wrong := names.check_variable(name):
        raise UsageError(f"{name!r} {wrong}")
    return name


def _small(name: str, text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{name}: its value is not valid UTF-8") from None
    if size > VALUE_SIZE:
        raise UsageError(f"{name}: its value has {size} bytes; {VALUE_SIZE} is the limit")
    return text


def json_value(name: str, text: str) -> Value:
    try:
        value = json.loads(_small(name, text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(
            f"{name}:={text[:60]}: is not JSON ({error})", hint='a text in JSON stands in quotes: N:="a"'
        ) from None
    return checked(name, value)


def checked(name: str, value: Any) -> Value:
    """Any JSON value that every reader reads the same: no null, no NaN, integers within 2^53."""
    match value:
        case bool() | str():
            return value
        case None:
            raise UsageError(f"{name}: null is no value of a var", next=f"svcctl vars unset {name}")
        case int() if abs(value) > _EXACT:
            raise UsageError(f"{name}: {value} is beyond ±2^53; write it as text")
        case float() if not math.isfinite(value):
            raise UsageError(f"{name}: {value} is not finite")
        case list():
            return [checked(name, item) for item in value]
        case dict():
            return {str(key): checked(name, item) for key, item in value.items()}
    number: Value = value
    return number


# ---- files


def read_pairs(path: Path) -> dict[str, Any]:
    """A .env file (values are text) or a JSON object, told apart by their first character. `-` is standard input."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{path}: {error}") from None
    return _json_pairs(path, text) if text.lstrip().startswith("{") else _env_pairs(path, text)


def _json_pairs(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: is not JSON ({error.msg})") from None
    return {_named(str(name)): value for name, value in found.items()}


def _env_pairs(path: Path, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        name, equals, value = words.removeprefix("export ").partition("=")
        if not equals:
            raise UsageError(f"{path}:{number}: must be NAME=VALUE")
        if wrong := names.check_variable(name.strip()):
            raise UsageError(f"{path}:{number}: {name.strip()!r} {wrong}")
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) > 1 and value[0] == value[-1] == '"':
        escapes = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
        parts, rest = [], iter(value[1:-1])
        for character in rest:
            parts.append(escapes.get(following := next(rest, ""), "\\" + following) if character == "\\" else character)
        return "".join(parts)
    return value.partition(" #")[0].rstrip()


# ---- secrets


def secret(context: Context, name: str, *, raw: bool) -> SecretValue:
    """Asked for without echo on a terminal, else standard input to its end; one closing newline is dropped."""
    if consent.can_ask(context):
        return SecretValue(consent.ask_secret(context, name))
    if sys.stdin.isatty():
        raise ConsentNeeded(f"{name} has no value and nobody can be asked", hint="give the value on standard input")
    value = sys.stdin.buffer.read(VALUE_SIZE + 2)
    if not raw:
        value = value.removesuffix(b"\n").removesuffix(b"\r") if value.endswith(b"\r\n") else value.removesuffix(b"\n")
    if len(value) > VALUE_SIZE:
        raise UsageError(f"{name}: its value has more than {VALUE_SIZE} bytes, which is the limit")
    if not value:
        raise UsageError(
            f"{name}: there is no value on standard input", next=f"printf %s VALUE | svcctl secrets set {name}"
        )
    return SecretValue(value)


def secrets_of(path: Path) -> dict[str, SecretValue]:
    found = {}
    for name, value in read_pairs(path).items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if not text:
            raise UsageError(f"{path}: {name} is empty")
        found[name] = SecretValue(_small(name, text))
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
    given = secrets_of(context.path(file)) if file else {}
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

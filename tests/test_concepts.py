"""docs/concepts.md is true: each of its tables is typed, line by line, and what it says must come.

A table's first column is what is typed, its last what is said, those between are environments. A cell holds the head
that the line made; an empty one says that the head stayed.

    v4 a2·a1 s1 k1    version 4; code a2 lying on a1; settings s1; secrets k1
    LOG=debug         an effective var            AUTH→auth/staging    where a binding leads
    @v1               a tag of the head           protected, host NAME  identity
    —                 no version                  gone                 no such environment
"""

import argparse
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomlkit
from scene import Clock, People, Scene

from svcctl import commands, config, reference
from svcctl.backend.base import Backend
from svcctl.errors import NotFound, SvcctlError
from svcctl.model import Binding, Change, Settings, Version
from svcctl.rules.halves import settings_digest, without_secrets

PAGE = Path(__file__).parent.parent / "docs" / "concepts.md"
ERRORS = ("refused", "not found", "conflict", "usage", "consent", "next: ")
TYPED, SAID = "you type", "it says"


class Line(NamedTuple):
    typed: str
    cells: tuple[str, ...]
    said: str


class Example(NamedTuple):
    title: str
    file: str
    places: tuple[str, ...]
    lines: tuple[Line, ...]


def examples(text: str) -> Iterator[Example]:
    common = _file(text)
    assert common, "the page shows the services.toml of its examples first"
    for section in re.split(r"^#{2,4} ", text, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        rows = [_row(line) for line in section.splitlines() if line.startswith("|")]
        if not rows or rows[0][0] != TYPED:
            continue
        assert rows[0][-1] == SAID, title
        lines = tuple(Line(row[0].strip("`"), tuple(row[1:-1]), row[-1]) for row in rows[2:])
        yield Example(title, _file(section) or common, tuple(rows[0][1:-1]), lines)


def _row(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]


def _file(section: str) -> str | None:
    found = re.search(r"^```toml\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return found[1] if found else None


EXAMPLES = list(examples(PAGE.read_text()))


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) >= 26


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_an_example_is_true(example: Example, backend: Backend, clock: Clock, people: People) -> None:
    replay = Replay(Scene(backend, clock, people, example.file), example)
    for line in example.lines:
        replay.run(line)


# ---- what is typed


class Typing:
    """Turns a line into what it asks for: the command line's own words, and four that stand for what happens around it:
    `deploy shop=a1` deploys that code, `edit` changes services.toml, `later` lets days pass, `as` changes who types."""

    def __init__(self, scene: Scene, file: str) -> None:
        self.scene = scene
        self.file = tomllib.loads(file)

    def type(self, line: str) -> Change | None:
        word, *rest = shlex.split(line)
        if word == "edit":
            return self._edit(line.partition(" ")[2])
        if word == "later":
            self.scene.clock.now += timedelta(days=int(rest[0]))
            return None
        if word == "as":
            self.scene.people.typing = rest[0]
            return None
        if word in {"env", "vars", "secrets", "service"}:
            word = f"{word}_{rest.pop(0)}"
        run: Callable[[list[str]], Change] = getattr(self, f"_{word}")
        return run(rest)

    def _edit(self, text: str) -> None:
        _merge(self.file, tomllib.loads(text))
        self.scene.write_file(tomlkit.dumps(self.file))

    def _deploy(self, words: list[str]) -> Change:
        typed = _parse(words, "--env", "--tag", "--expect", "--settings-only", "--force", "--move-domain", rest="*")
        code = dict(word.split("=") for word in typed.rest)
        options = {name: getattr(typed, name) for name in ("tag", "settings_only", "force", "move_domain")}
        options["services"] = tuple(typed.service) or tuple(code) or None
        if typed.expect:
            wanted = reference.parse(typed.expect)
            place = f"{wanted.service}/{wanted.environment}"
            options["expect"] = {place: self.scene.version(typed.expect).number if wanted.at else None}
        return self.scene.deploy(typed.env, **options, **code)

    def _promote(self, words: list[str]) -> Change:
        typed = _parse(words, "--force", rest=2)
        return self.scene.promote(*typed.rest, services=typed.services, force=typed.force)

    def _rollback(self, words: list[str]) -> Change:
        flags = ("--code-only", "--settings-only", "--restore-secrets", "--force")
        typed = _parse(words, "--to", *flags, rest="?")
        options = {
            flag.strip("-").replace("-", "_"): getattr(typed, flag.strip("-").replace("-", "_")) for flag in flags
        }
        return self.scene.rollback(typed.rest or "production", services=typed.services, to=typed.to, **options)

    def _vars_set(self, words: list[str]) -> Change:
        typed = _parse(words, "--env", rest="*")
        values = dict(word.split("=", 1) for word in typed.rest)
        return self._configure(typed, vars=values)

    def _vars_unset(self, words: list[str]) -> Change:
        typed = _parse(words, "--env", rest="*")
        return self._configure(typed, unset_vars=tuple(typed.rest))

    def _bind(self, words: list[str]) -> Change:
        typed = _parse(words, "--env", "--cli", rest=1)
        name, _, place = typed.rest[0].partition("=")
        service, _, environment = place.partition("/")
        return self._configure(typed, bindings={name: Binding(service=service, environment=environment or None)})

    def _secrets_set(self, words: list[str]) -> Change:
        """The value stands where a person is asked for it."""
        typed = _parse(words, "--env", rest=1)
        name, _, value = typed.rest[0].partition("=")
        return self.scene.secret(f"{typed.service[0]}/{typed.env}", name, value)

    def _configure(self, typed: argparse.Namespace, **fields: Any) -> Change:
        return self.scene.do(commands.Configure, environment=typed.env, services=typed.services, **fields)

    def _env_clone(self, words: list[str]) -> Change:
        typed = _parse(words, "--no-secrets", "--exist-ok", "--ttl", rest=2)
        ttl = int(typed.ttl.removesuffix("d")) * 86_400 if typed.ttl else None
        options = {"no_secrets": typed.no_secrets, "exist_ok": typed.exist_ok, "ttl": ttl}
        return self.scene.clone(*typed.rest, services=typed.services, **options)

    def _env_create(self, words: list[str]) -> Change:
        typed = _parse(words, "--exist-ok", rest=1)
        return self.scene.create(*typed.rest, services=typed.services, exist_ok=typed.exist_ok)

    def _env_rename(self, words: list[str]) -> Change:
        return self.scene.rename(*_parse(words, rest=2).rest)

    def _env_delete(self, words: list[str]) -> Change:
        return self.scene.delete(*_parse(words, rest=1).rest)

    def _env_prune(self, words: list[str]) -> Change:
        assert not words
        return self.scene.do(commands.Prune)

    def _env_protect(self, words: list[str]) -> Change:
        typed = _parse(words, "--off", rest=1)
        return self.scene.protect(*typed.rest, on=not typed.off)

    def _tag(self, words: list[str]) -> Change:
        return self.scene.tag(*_parse(words, rest=2).rest)


VALUED = {"--env", "--tag", "--expect", "--to", "--ttl"}


def _parse(words: list[str], *options: str, rest: int | str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("-s", dest="service", action="append", default=[])
    for option in options:
        parser.add_argument(option, **({} if option in VALUED else {"action": "store_true"}))
    parser.add_argument("rest", nargs=rest)
    typed = parser.parse_intermixed_args(words)
    typed.services = tuple(typed.service) or None
    return typed


def _merge(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _merge(old[key], value)
        else:
            old[key] = value


# ---- what comes


class Replay:
    def __init__(self, scene: Scene, example: Example) -> None:
        self.scene = scene
        self.example = example
        self.typing = Typing(scene, example.file)
        self.labels: dict[str, str] = {}

    def run(self, line: Line) -> None:
        before = {place: self._head(place) for place in self.example.places}
        said = self._say(line.typed, line.said)
        assert line.said in said, f"{line.typed}: says {said!r}"
        for place, cell in zip(self.example.places, line.cells, strict=True):
            where = f"{line.typed}: {place}"
            if cell:
                self._check(where, place, cell)
            else:
                assert self._head(place) == before[place], f"{where}: the head moved"

    def _say(self, typed: str, expected: str) -> str:
        try:
            change = self.typing.type(typed)
        except SvcctlError as error:
            code = error.code.replace("_", " ")
            if not expected.startswith((code, "next: ")):
                raise
            return f"{code}: {error.message}\nnext: {error.next}"
        assert not expected.startswith(ERRORS), f"{typed}: was done"
        if change is None:
            return ""
        return "\n".join([*change.summary, *change.notes, *([] if change.changed else ["nothing to do"])])

    def _head(self, place: str) -> int | None:
        try:
            return self.scene.head(place)
        except NotFound:
            return None

    def _check(self, where: str, place: str, cell: str) -> None:
        if cell == "gone":
            with pytest.raises(NotFound):
                self.scene.head(place)
            return
        if cell.startswith("—"):
            assert self.scene.head(place) is None, where
            return
        head = self.scene.version(place)
        words = cell.split()
        while words:
            word = words.pop(0)
            if word == "host":
                assert self._environment(place).hostname == words.pop(0), where
            else:
                self._check_word(f"{where}: {word}", place, head, word)

    def _check_word(self, where: str, place: str, head: Version, word: str) -> None:
        name, arrow, target = word.partition("→")
        variable, equals, value = word.partition("=")
        if arrow:
            assert self.scene.backend.deployment(*place.split("/")).nodes[0].bindings.get(name) == target, where
        elif equals:
            assert str(self.scene.settings(place).vars.get(variable)) == value, where
        elif word.startswith("@"):
            assert word[1:] in head.tags, where
        elif word == "protected":
            assert self._environment(place).protected, where
        elif re.fullmatch(r"v[0-9]+", word):
            assert head.number == int(word[1:]), where
        else:
            self._check_half(where, head, word)

    def _check_half(self, where: str, head: Version, word: str) -> None:
        """A half that is written with what lies beneath has nothing else beneath."""
        piles = {"a": self._code_pile, "b": self._code_pile, "c": self._code_pile, "k": self._secrets}
        found = piles.get(word[0], self._settings_pile)(head, word)
        wanted = word.split("·")
        assert found[: len(wanted)] == wanted, f"{where}: is {'·'.join(found)}"
        assert len(wanted) == 1 or len(found) == len(wanted), f"{where}: is {'·'.join(found)}"

    def _code_pile(self, head: Version, _word: str) -> list[str]:
        pile: list[str] = []
        version: Version | None = head
        while version and version.code:
            pile.append(self.scene.text(version.ref) or "")
            version = self._beneath(version, version.code.under)
        return pile

    def _settings_pile(self, head: Version, word: str) -> list[str]:
        pile = []
        version: Version | None = head
        wanted = iter(word.split("·"))
        while version:
            settings = self.scene.settings(version.ref)
            pile.append(self._label(next(wanted, "?"), settings_digest(without_secrets(settings))))
            version = self._beneath(version, version.settings.under)
        return pile

    def _secrets(self, head: Version, word: str) -> list[str]:
        secrets: Settings = self.scene.settings(head.ref)
        return [self._label(word, repr(sorted(secrets.secrets.items())))]

    def _beneath(self, version: Version, number: int | None) -> Version | None:
        return self.scene.version(f"{version.service}/{version.environment}@{number}") if number else None

    def _label(self, word: str, found: str) -> str:
        """A label stands for what it stood for first, and for nothing that has another."""
        if word != "?" and word not in self.labels.values():
            self.labels.setdefault(found, word)
        return self.labels.get(found, "new")

    def _environment(self, place: str) -> Any:
        return self.scene.backend.environment(*place.split("/"))


def test_the_file_of_the_examples_loads() -> None:
    assert sorted(config.load_text(EXAMPLES[0].file).services) == ["auth", "shop"]

"""What the commands mean, said a second time and as plainly as can be: piles are lists, settings are dicts, one thing
happens after the other. It knows no bindings, routes or protection. test_properties.py holds the store against it."""

from dataclasses import dataclass, field, replace
from typing import Any

Layer = dict[str, str]
"""Values as JSON: to Python, True equals 1."""
Half = tuple[int, Any]
"""(the version that laid it, what it is)"""

SERVICES = ("auth", "shop")
NAMED = {"production", "staging"}


class Wrong(Exception):
    """The command is refused; the text is the error's code."""


@dataclass(frozen=True)
class Code:
    text: str
    requires: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    file: tuple[tuple[str, str], ...] | None = None
    cli: tuple[tuple[str, str], ...] = ()

    @property
    def vars(self) -> Layer:
        return dict(self.file or ()) | dict(self.cli)


@dataclass(frozen=True)
class Version:
    number: int
    change: int
    kind: str
    code: tuple[Half, ...]
    settings: tuple[Half, ...]
    secrets: tuple[tuple[str, str], ...] = ()

    @property
    def runs(self) -> Code | None:
        return self.code[-1][1] if self.code else None

    @property
    def document(self) -> Settings:
        found: Settings = self.settings[-1][1]
        return found


@dataclass
class Environment:
    service: str
    name: str
    block: str
    born: int = 0
    versions: dict[int, Version] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)

    def copied(self) -> "Environment":
        return replace(self, versions=dict(self.versions), tags=dict(self.tags))

    @property
    def last(self) -> int:
        return max(self.versions, default=0)

    @property
    def head(self) -> Version | None:
        return self.versions[self.last] if self.last > self.born else None

    def at(self, at: str | None, newest: int) -> Version | None:
        """`newest` is the last change there was: a later one is no place to look from."""
        if at is None:
            return self.head
        if at.startswith("c"):
            if int(at[1:]) > newest:
                return None
            numbers = [version.number for version in self.versions.values() if version.change <= int(at[1:])]
            number = max(numbers, default=0)
        else:
            number = int(at) if at.isdecimal() else self.tags.get(at, 0)
        return self.versions.get(number) if number > self.born else None


class Model:
    def __init__(self) -> None:
        self.file: dict[str, dict[str, Layer]] = {service: {"": {"LOG": '"info"'}} for service in SERVICES}
        self.living: dict[tuple[str, str], Environment] = {}
        self.dead: dict[tuple[str, str], list[Environment]] = {}
        self.changes = 0
        self.touched = False

    def do(self, kind: str, **fields: Any) -> bool:
        """Whether anything changed. All or nothing."""
        before = self._copied()
        self.touched, self.changes = False, self.changes + 1
        try:
            getattr(self, kind)(**fields)
        except Wrong:
            (self.living, self.dead), self.touched = before, False
            raise
        finally:
            self.changes -= not self.touched
        return self.touched

    def _copied(self) -> Any:
        living = {key: place.copied() for key, place in self.living.items()}
        return living, {key: [place.copied() for place in places] for key, places in self.dead.items()}

    # ---- commands

    def deploy(self, environment: str, code: dict[str, str]) -> None:
        for service in code:
            self._service(service)
        for service, text in code.items():
            place = self._ensure(service, environment)
            requires = tuple(sorted(self.file[service][""]))
            settings = Settings(self._layer(place), self._settings(place).cli)
            self._append(place, "deploy", code=Code(text, requires), settings=settings)

    def vars_set(self, environment: str, service: str, name: str, value: str) -> None:
        place = self._ensure(service, environment)
        settings = self._first(place)
        cli = tuple(sorted({**dict(settings.cli), name: value}.items()))
        self._append(place, "configure", settings=Settings(settings.file, cli))

    def vars_unset(self, environment: str, service: str, name: str) -> None:
        place = self.living.get((service, environment))
        if place is None:
            raise Wrong("not_found")
        settings = self._settings(place)
        if name not in dict(settings.cli):
            raise Wrong("refused" if name in dict(settings.file or ()) else "not_found")
        cli = tuple((key, value) for key, value in settings.cli if key != name)
        self._append(place, "configure", settings=Settings(self._first(place).file, cli))

    def secret(self, environment: str, service: str, value: str) -> None:
        place = self._ensure(service, environment)
        self._append(place, "configure", settings=self._first(place), secrets=(("KEY", value),))

    def promote(self, source: str, at: str | None, target: str, service: str | None) -> None:
        if source == target:
            raise Wrong("refused")
        services = self._selected(service)
        if not any((each, source) in self.living for each in services):
            raise Wrong("not_found")
        pairs = []
        for each in services:
            version = self.living[each, source].at(at, self.changes - 1) if (each, source) in self.living else None
            if version is None and at and at.isdecimal() and (each, source) in self.living:
                raise Wrong("not_found")
            if version and version.runs and ((each, target) in self.living or target in NAMED):
                pairs.append((version, self._ensure(each, target), self.living[each, source]))
        if not pairs:
            raise Wrong("not_found")
        for version, place, origin in pairs:
            if place.head and place.head.runs == version.runs:
                continue
            settings = self._first(place)
            self._refuse_lacking(version.runs, settings)
            self._append(place, "promote", code=version.runs, settings=settings)
            self._carry(origin, version.number, place)

    def rollback(self, environment: str, to: str | None, sides: tuple[str, ...], service: str | None) -> None:
        services = self._selected(service)
        named = [self.living[each, environment] for each in services if (each, environment) in self.living]
        places = [place for place in named if place.head]
        if not places:
            raise Wrong("refused" if named else "not_found")
        moves = self._newest(places, sides) if to is None else self._named(places, to, sides)
        for place, piles in moves:
            head = place.head
            assert head
            code, settings = piles.get("code", head.code), piles.get("settings", head.settings)
            self._refuse_lacking(code[-1][1] if code else None, settings[-1][1])
            self._write(place, Version(place.last + 1, self.changes, "rollback", code, settings, head.secrets))

    def clone(self, source: str, at: str | None, target: str, service: str | None) -> None:
        services = self._selected(service)
        if not any((each, source) in self.living for each in services):
            raise Wrong("not_found")
        for each in services:
            origin = self.living.get((each, source))
            if origin is None:
                continue
            if (each, target) in self.living:
                raise Wrong("refused")
            version = origin.at(at, self.changes - 1)
            if version is None and at and at.isdecimal():
                raise Wrong("not_found")
            place = self._create(each, target, origin.block)
            if version:
                self._append(place, "clone", version.runs, version.document, version.secrets)
                self._carry(origin, version.number, place)

    def create(self, environment: str) -> None:
        for service in SERVICES:
            if (service, environment) in self.living:
                raise Wrong("refused")
            self._service(service)
            if (service, environment) not in self.living:
                self._create(service, environment, environment)

    def rename(self, old: str, new: str) -> None:
        if "production" in {old, new}:
            raise Wrong("refused")
        for place in self._all(old):
            if (place.service, new) in self.living:
                raise Wrong("refused")
            del self.living[place.service, old]
            self.living[place.service, new] = place
            place.name, self.touched = new, True

    def delete(self, environment: str) -> None:
        if environment == "production":
            raise Wrong("refused")
        for place in self._all(environment):
            del self.living[place.service, environment]
            self.dead.setdefault((place.service, environment), []).append(place)
            self.touched = True

    def tag(self, environment: str, at: str | None, name: str) -> None:
        found = [(place, place.at(at, self.changes - 1)) for place in self._all(environment)]
        if not any(version for _, version in found):
            raise Wrong("not_found")
        for place, version in found:
            if version and place.tags.get(name, version.number) != version.number:
                raise Wrong("refused")
            if version and name not in place.tags:
                place.tags[name], self.touched = version.number, True

    def edit(self, service: str, block: str, values: Layer) -> None:
        """services.toml; no change of the store."""
        self.file[service][block] = values

    # ---- roll back

    def _newest(self, places: list[Environment], sides: tuple[str, ...]) -> list[Any]:
        laid = {
            (place.service, side): place.versions[pile[-1][0]].change
            for place in places
            for side in sides
            if (pile := getattr(place.head, side))
        }
        newest = max(laid.values(), default=0)
        moves = []
        for place in places:
            off = [side for side in sides if laid.get((place.service, side)) == newest]
            less = {side: pile[:-1] for side in off if len(pile := getattr(place.head, side)) > 1}
            if less and ("code" not in off or "code" in less):
                moves.append((place, less))
        if not moves:
            raise Wrong("refused")
        return moves

    def _named(self, places: list[Environment], to: str, sides: tuple[str, ...]) -> list[Any]:
        if to.isdecimal() and len(places) > 1:
            raise Wrong("usage")
        found = [(place, version) for place in places if (version := place.at(to, self.changes - 1))]
        if not found:
            raise Wrong("not_found")
        moves = []
        for place, version in found:
            if "code" in sides and not version.code and place.head and place.head.code:
                continue
            piles = {side: getattr(version, side) for side in sides}
            back = {side: self._back(getattr(place.head, side), wanted) for side, wanted in piles.items() if wanted}
            now = {side: getattr(place.head, side) for side in sides}
            moved = {side: pile for side, pile in back.items() if not now[side] or pile[-1][1] != now[side][-1][1]}
            if moved:
                moves.append((place, moved))
        return moves

    @staticmethod
    def _back(present: tuple[Half, ...], old: tuple[Half, ...]) -> tuple[Half, ...]:
        """What lies above comes off; if the half was off already, it is laid on what is older."""
        return (*(half for half in present if half[0] < old[-1][0]), old[-1])

    # ---- environments

    def _selected(self, service: str | None) -> list[str]:
        known = sorted({place.service for place in self.living.values()})
        if service is not None and service not in known:
            raise Wrong("not_found")
        return [service] if service else known

    def _all(self, name: str) -> list[Environment]:
        found = [self.living[service, name] for service in SERVICES if (service, name) in self.living]
        if not found:
            raise Wrong("not_found")
        return found

    def _service(self, service: str) -> None:
        if (service, "production") not in self.living:
            self._create(service, "production", "production")

    def _ensure(self, service: str, name: str) -> Environment:
        if (service, name) not in self.living and name not in NAMED:
            raise Wrong("not_found")
        self._service(service)
        return self.living.get((service, name)) or self._create(service, name, name)

    def _create(self, service: str, name: str, block: str) -> Environment:
        dead = self.dead.get((service, name))
        place = dead.pop() if dead else Environment(service, name, block)
        place.block, place.born, place.tags = block, place.last, {}
        self.living[service, name] = place
        self.touched = True
        return place

    # ---- versions

    def _layer(self, place: Environment) -> tuple[tuple[str, str], ...]:
        blocks = self.file[place.service]
        own = blocks.get(place.name if place.name in blocks else place.block, {})
        return tuple(sorted({**blocks[""], **own}.items()))

    def _settings(self, place: Environment) -> Settings:
        return place.head.document if place.head else Settings()

    def _first(self, place: Environment) -> Settings:
        settings = self._settings(place)
        return settings if settings.file is not None else Settings(self._layer(place), settings.cli)

    def _refuse_lacking(self, code: Code | None, settings: Settings) -> None:
        if code and set(code.requires) - set(settings.vars):
            raise Wrong("refused")

    def _append(
        self,
        place: Environment,
        kind: str,
        code: Code | None = None,
        settings: Settings | None = None,
        secrets: tuple[tuple[str, str], ...] | None = None,
    ) -> None:
        head, number = place.head, place.last + 1
        codes, documents = (head.code, head.settings) if head else ((), ())
        kept = secrets if secrets is not None else head.secrets if head else ()
        if code and (not codes or codes[-1][1] != code):
            codes = (*codes, (number, code))
        if not documents or documents[-1][1] != settings:
            documents = (*documents, (number, settings))
        version = Version(number, self.changes, kind, codes, documents, kept)
        if head is None or (head.code, head.settings, head.secrets) != (codes, documents, kept):
            self._write(place, version)

    def _write(self, place: Environment, version: Version) -> None:
        place.versions[version.number] = version
        self.touched = True

    def _carry(self, origin: Environment, number: int, place: Environment) -> None:
        for name in [name for name, tagged in origin.tags.items() if tagged == number]:
            place.tags.setdefault(name, place.last)

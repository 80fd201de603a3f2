"""Random commands, held against a model that says the same a second time (sequential.py): after each, both have the
same environments, versions, numbers, piles, settings, tags and refusals."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scene import Clock, People, Scene
from sequential import SERVICES, Environment, Model, Version, Wrong

from svcctl import commands, names
from svcctl.backend.store import Store
from svcctl.errors import SvcctlError
from svcctl.model import Code, Half

environments = st.sampled_from(["staging", "staging", "production", "production", "pre", "qa"])
passing = st.sampled_from(["pre", "pre", "qa", "staging", "production"])
services = st.sampled_from(SERVICES)
some = st.none() | services
texts = st.integers(1, 9).map("a{}".format)
values = st.sampled_from(['"info"', '"debug"', "true", "1"])  # JSON: to Python, True equals 1
points = st.none() | st.none() | st.sampled_from(["c1", "c2", "c3", "c5", "c8", "v1", "v2"])
sides = st.sampled_from([("code", "settings"), ("code",), ("settings",)])
blocks = st.sampled_from(["", "production", "qa"])

deploys = st.fixed_dictionaries(
    {"environment": environments, "code": st.dictionaries(services, texts, min_size=1, max_size=2)}
)
step = st.one_of(
    st.tuples(st.just("release"), st.dictionaries(services, texts, min_size=1, max_size=2)),
    st.tuples(st.just("release"), st.dictionaries(services, texts, min_size=1, max_size=2)),
    st.tuples(st.just("deploy"), deploys),
    st.tuples(
        st.just("vars_set"),
        st.fixed_dictionaries(
            {"environment": environments, "service": services, "name": st.sampled_from(["LOG", "X"]), "value": values}
        ),
    ),
    st.tuples(
        st.just("vars_unset"),
        st.fixed_dictionaries(
            {"environment": environments, "service": services, "name": st.sampled_from(["LOG", "X"])}
        ),
    ),
    st.tuples(
        st.just("secret"),
        st.fixed_dictionaries({"environment": environments, "service": services, "value": st.sampled_from("12")}),
    ),
    st.tuples(
        st.just("promote"),
        st.fixed_dictionaries({"source": environments, "at": points, "target": environments, "service": some}),
    ),
    st.tuples(
        st.just("rollback"),
        st.fixed_dictionaries(
            {"environment": environments, "to": points | st.sampled_from("1234"), "sides": sides, "service": some}
        ),
    ),
    st.tuples(
        st.just("rollback"),
        st.fixed_dictionaries(
            {"environment": st.just("production"), "to": st.none(), "sides": sides, "service": st.none()}
        ),
    ),
    st.tuples(
        st.just("clone"),
        st.fixed_dictionaries({"source": environments, "at": points, "target": passing, "service": some}),
    ),
    st.tuples(st.just("create"), st.fixed_dictionaries({"environment": environments})),
    st.tuples(st.just("rename"), st.fixed_dictionaries({"old": passing, "new": passing})),
    st.tuples(st.just("delete"), st.fixed_dictionaries({"environment": passing})),
    st.tuples(
        st.just("tag"),
        st.fixed_dictionaries({"environment": environments, "at": points, "name": st.sampled_from(["v1", "v2"])}),
    ),
    st.tuples(
        st.just("edit"),
        st.fixed_dictionaries(
            {
                "service": services,
                "block": blocks.filter(lambda block: block != "qa"),
                "values": st.dictionaries(st.sampled_from(["LOG", "LIMIT"]), values, max_size=2),
            }
        ),
    ),
    st.tuples(st.just("clock"), st.integers(-4000, 4000)),
)
Step = tuple[str, Any]


@settings(max_examples=60)
@given(st.lists(step, min_size=12, max_size=30))
def test_the_store_and_the_model_agree(steps: list[Step]) -> None:
    with a_pair() as pair:
        for kind, fields in steps:
            pair.run(kind, fields)
        pair.compare_everything()


@pytest.mark.soak
@settings(max_examples=600)
@given(st.lists(step, min_size=8, max_size=60))
def test_the_store_and_the_model_agree_at_length(steps: list[Step]) -> None:
    with a_pair() as pair:
        for kind, fields in steps:
            pair.run(kind, fields)
        pair.compare_everything()


@settings(max_examples=6, phases=[Phase.generate])
@given(st.lists(step, min_size=200, max_size=200))
def test_after_two_hundred_commands_every_version_is_what_it_was(steps: list[Step]) -> None:
    with a_pair() as pair:
        for kind, fields in steps:
            pair.run(kind, fields)
        pair.compare_everything()
        assert pair.store.verify().problems == ()


class Pair:
    """The store and the model, told the same."""

    def __init__(self, store: Store, clock: Clock, people: People) -> None:
        self.store = store
        self.model = Model()
        self.scene = Scene(store, clock, people)
        self.fingerprints: dict[str, str] = {}
        self.number = 0
        self._write_file()
        self.run("deploy", {"environment": "staging", "code": {"auth": "a1", "shop": "a1"}})

    def run(self, kind: str, fields: Any) -> None:
        if kind == "clock":
            self.scene.clock.now += timedelta(days=fields)
            return
        if kind == "edit":
            self.model.edit(**fields)
            self._write_file()
            return
        if kind == "release":
            self.run("deploy", {"environment": "staging", "code": fields})
            self.run("promote", {"source": "staging", "at": None, "target": "production", "service": None})
            return
        asked = self._ask(kind, fields)
        wanted, found = self._wanted(kind, fields), self._found(asked)
        assert found == wanted, f"{kind} {fields}"
        assert self.scene.newest_change() == self.model.changes
        self._compare_heads()

    def _wanted(self, kind: str, fields: Any) -> str | bool:
        try:
            return self.model.do(kind, **fields)
        except Wrong as wrong:
            return str(wrong)

    def _found(self, asked: commands.Command) -> str | bool:
        """What is planned is what is done."""
        try:
            plan = self.store.plan(asked)
        except SvcctlError as error:
            with pytest.raises(type(error)):
                self.store.apply(asked)
            return error.code
        change = self.store.apply(asked)
        assert change.summary == tuple(each.sentence for each in plan.steps)
        assert change.notes == plan.notes
        return change.changed

    def _ask(self, kind: str, fields: Any) -> Any:
        scene = self.scene
        one = (fields["service"],) if fields.get("service") else None
        at = f"@{fields['at']}" if fields.get("at") else ""
        match kind:
            case "deploy":
                code = {service: scene.code(service, text) for service, text in fields["code"].items()}
                return scene.ask(commands.Deploy, environment=fields["environment"], code=code, services=tuple(code))
            case "vars_set":
                return self._configure(one, fields, vars=read({fields["name"]: fields["value"]}))
            case "vars_unset":
                return self._configure(one, fields, unset_vars=(fields["name"],))
            case "secret":
                sealed = self.store.seal(fields["service"], fields["environment"], "KEY", fields["value"].encode())
                self.fingerprints[fields["value"]] = sealed.fingerprint
                return self._configure(one, fields, secrets=(sealed,))
            case "promote":
                return scene.ask(
                    commands.Promote, source=f"{fields['source']}{at}", target=fields["target"], services=one
                )
            case "rollback":
                only = {f"{side}_only": fields["sides"] == (side,) for side in ("code", "settings")}
                return scene.ask(
                    commands.RollBack, environment=fields["environment"], to=fields["to"], services=one, **only
                )
            case "clone":
                return scene.ask(
                    commands.Clone, source=f"{fields['source']}{at}", target=fields["target"], services=one
                )
            case "create":
                return scene.ask(commands.CreateEnvironment, **fields)
            case "rename":
                return scene.ask(commands.Rename, **fields)
            case "delete":
                return scene.ask(commands.DeleteEnvironment, **fields)
            case _:
                return scene.ask(commands.TagVersion, reference=f"{fields['environment']}{at}", name=fields["name"])

    def _configure(self, one: tuple[str, ...] | None, fields: Any, **change: Any) -> Any:
        return self.scene.ask(commands.Configure, environment=fields["environment"], services=one, **change)

    def _write_file(self) -> None:
        text = {"project": "acme", "default_environment": "staging", "services": {}}
        for service, found in self.model.file.items():
            tables = {block: {"vars": read(layer)} for block, layer in found.items() if block}
            text["services"][service] = {"main": "worker.py", "vars": read(found[""]), "environments": tables}
        self.scene.write_file(tomlkit.dumps(text))

    # ---- the same on both sides

    def _compare_heads(self) -> None:
        for place, environment in self._both():
            assert environment.head == (place.head.number if place.head else None), environment.ref
            if place.head:
                self._compare(place, place.head)

    def _both(self) -> Iterator[tuple[Environment, Any]]:
        found = {(each.service, each.name): each for each in self.store.environments("acme")}
        assert found.keys() == self.model.living.keys()
        for (service, name), place in self.model.living.items():
            environment = found[service, name]
            assert environment.hostname == names.hostname(service, name, "localhost")
            yield place, environment

    def compare_everything(self) -> None:
        """Every version of this life of every environment, as it was when it was made."""
        for place, _ in self._both():
            ref = f"{place.service}/{place.name}"
            assert self.scene.numbers(ref) == sorted(place.versions, reverse=True)
            for number in range(place.born + 1, place.last + 1):
                self._compare(place, place.versions[number])

    def _compare(self, place: Environment, wanted: Version) -> None:
        ref = f"{place.service}/{place.name}@{wanted.number}"
        found, document = self.scene.version(ref), self.scene.settings(ref)
        assert (found.kind, found.change) == (wanted.kind, wanted.change), ref
        assert found.tags == tuple(sorted(tag for tag, number in place.tags.items() if number == wanted.number)), ref
        assert {name: json.dumps(value) for name, value in document.vars.items()} == wanted.document.vars, ref
        assert dict(document.secrets) == {name: self.fingerprints[value] for name, value in wanted.secrets}, ref
        assert lies(place, found.code, "code") == wanted.code, ref
        assert lies(place, found.settings, "settings") == wanted.settings, ref
        if wanted.runs:
            assert self.scene.text(ref) == wanted.runs.text, ref
            assert found.code
            assert found.code.requires.vars == wanted.runs.requires, ref


def lies(place: Environment, half: Code | Half | None, side: str) -> tuple[Any, ...]:
    """The pile that `since` and `under` say, in the model's words."""
    if half is None:
        return ()
    beneath = getattr(place.versions[half.under], side) if half.under else ()
    (laid,) = [each for each in getattr(place.versions[half.since], side) if each[0] == half.since]
    return (*beneath, laid)


def read(values: dict[str, str]) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in values.items()}


@contextmanager
def a_pair() -> Iterator[Pair]:
    clock, people = Clock(), People()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / ".svcctl", actor=people, clock=clock)
        try:
            yield Pair(store, clock, people)
        finally:
            store.close()

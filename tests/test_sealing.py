import base64
import copy
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl.errors import Damage, Refused
from svcctl.model import Sealed
from svcctl.sealing import (
    KeyFile,
    MasterKey,
    Sealer,
    SecretValue,
    new_fingerprint_key,
    obtain_master_key,
    parse_master_key,
    present_master_key,
    rewrap_fingerprint_key,
    sealed_with,
)

CANARY = "canary-5up3r-s3cret"
CANARY_FORMS = (CANARY, base64.b64encode(CANARY.encode()).decode(), CANARY.encode().hex())

texts = st.text(st.characters(codec="utf-8"), max_size=40)


def master(digit: int = 1) -> MasterKey:
    key = parse_master_key(SecretValue(base64.b64encode(bytes([digit]) * 32)), f"key {digit}")
    assert key is not None
    return key


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sealer_of(key: MasterKey, store: str = "store-1") -> Sealer:
    return Sealer(key, store, new_fingerprint_key(key, store))


SEALER = sealer_of(master())
SEALED = SEALER.seal("env-1", "TOKEN", SecretValue(CANARY))


# ---- the type


def test_a_value_shows_nowhere() -> None:
    value = SecretValue(CANARY)
    shown = [str(value), repr(value), f"{value}", f"{value!r:>20}", f"{[value]} { ({'a': value}) }", "%s" % value]  # noqa: UP031
    assert not [text for text in shown if CANARY in text]
    assert f"{value:>5}" == "  ***"


def test_a_value_is_not_serialised() -> None:
    value = SecretValue(CANARY)
    for encode in (json.dumps, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, pickle.dumps):
        with pytest.raises(TypeError) as refused:
            encode(value)  # type: ignore[operator]
        assert CANARY not in str(refused.value)
    assert not hasattr(value, "__dict__")


def test_a_value_compares_and_copies_as_itself() -> None:
    value = SecretValue("grün")
    assert value == SecretValue("grün".encode())
    assert value != SecretValue("gruen")
    assert value != "grün"
    assert len({value, SecretValue("grün")}) == 1
    assert copy.deepcopy(value) == copy.copy(value) == value
    assert value.reveal() == "grün".encode()


def test_neither_keys_nor_sealer_nor_tracebacks_show_values() -> None:
    key = parse_master_key(SecretValue(base64.b64encode(CANARY.ljust(32).encode())), "SVCCTL_SECRET_KEY")
    assert key is not None
    sealer = sealer_of(key)
    sealed = sealer.seal_for_transport("shop", "staging", "TOKEN", SecretValue(CANARY))
    with pytest.raises(Damage) as damage:
        sealer.open_transport(msgspec.structs.replace(sealed, name="OTHER"))
    report = traceback.TracebackException.from_exception(damage.value, capture_locals=True)
    everything = "".join(report.format()) + repr([key, sealer, sealed, vars(key), vars(sealer)])
    assert not [form for form in CANARY_FORMS if form in everything]


# ---- sealing


@given(environment=texts, name=texts, value=st.binary(max_size=200))
def test_what_is_sealed_opens_in_its_place(environment: str, name: str, value: bytes) -> None:
    sealed = SEALER.seal(environment, name, SecretValue(value))
    assert SEALER.open(environment, name, sealed) == SecretValue(value)


@given(service=texts, environment=texts, name=texts, value=st.binary(max_size=200))
def test_what_is_sealed_for_transport_opens_in_the_store(
    service: str, environment: str, name: str, value: bytes
) -> None:
    sealed = SEALER.seal_for_transport(service, environment, name, SecretValue(value))
    assert SEALER.open_transport(sealed) == SecretValue(value)
    assert sealed.fingerprint == SEALER.fingerprint(name, SecretValue(value))


@given(first=st.tuples(texts, texts), second=st.tuples(texts, texts))
def test_a_moved_row_does_not_open(first: tuple[str, str], second: tuple[str, str]) -> None:
    sealed = SEALER.seal(*first, SecretValue(CANARY))
    if first == second:
        assert SEALER.open(*second, sealed).reveal() == CANARY.encode()
    else:
        with pytest.raises(Damage, match="another place"):
            SEALER.open(*second, sealed)


def test_places_that_join_alike_are_different_places() -> None:
    with pytest.raises(Damage):
        SEALER.open("env-1T", "OKEN", SEALED)


@pytest.mark.parametrize("position", range(len(SEALED)))
def test_every_flipped_byte_is_damage(position: int) -> None:
    altered = bytearray(SEALED)
    altered[position] ^= 0x10
    with pytest.raises(Damage, match="TOKEN of environment env-1"):
        SEALER.open("env-1", "TOKEN", bytes(altered))


@pytest.mark.parametrize("length", [0, 1, 5, 17, 32, len(SEALED) - 1])
def test_a_cut_value_is_damage(length: int) -> None:
    with pytest.raises(Damage):
        SEALER.open("env-1", "TOKEN", SEALED[:length])


def test_another_store_does_not_open_it() -> None:
    with pytest.raises(Damage):
        sealer_of(master(), "store-2").open("env-1", "TOKEN", SEALED)


def test_transport_and_rest_do_not_pass_for_each_other() -> None:
    sent = SEALER.seal_for_transport("shop", "env-1", "TOKEN", SecretValue(CANARY))
    with pytest.raises(Damage):
        SEALER.open("env-1", "TOKEN", base64.b64decode(sent.ciphertext))
    as_sent = Sealed(
        service="shop", environment="env-1", name="TOKEN", fingerprint="", ciphertext=base64.b64encode(SEALED).decode()
    )
    with pytest.raises(Damage):
        SEALER.open_transport(as_sent)


@pytest.mark.parametrize("field", ["service", "environment", "name", "fingerprint", "ciphertext"])
def test_a_client_can_change_nothing_about_a_sealed_value(field: str) -> None:
    sealed = SEALER.seal_for_transport("shop", "staging", "TOKEN", SecretValue(CANARY))
    with pytest.raises(Damage):
        SEALER.open_transport(msgspec.structs.replace(sealed, **{field: "other"}))


def test_equal_values_are_sealed_differently() -> None:
    assert SEALER.seal("env-1", "TOKEN", SecretValue(CANARY)) != SEALED
    assert not [form for form in CANARY_FORMS if form.encode() in SEALED]


# ---- keys


def test_a_wrong_key_says_which_one_is_needed() -> None:
    with pytest.raises(Refused) as refused:
        sealer_of(master(2)).open("env-1", "TOKEN", SEALED)
    assert refused.value.message == (
        f"TOKEN of environment env-1 was sealed with the key {master(1).id}; "
        f"the present key, from key 2, is {master(2).id}"
    )
    assert refused.value.hint == (
        "bring the former key back, as secret.key in the store's folder or in SVCCTL_SECRET_KEY"
    )


def test_a_store_opened_with_a_wrong_key_says_so_at_the_first_fingerprint() -> None:
    sealer = Sealer(master(2), "store-1", new_fingerprint_key(master(1), "store-1"))
    with pytest.raises(Refused, match="the store's fingerprint key was sealed with the key"):
        sealer.fingerprint("TOKEN", SecretValue(CANARY))


def test_the_first_need_makes_a_key_file_of_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    assert present_master_key(path, {}) is None
    made = obtain_master_key(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["secret.key"]
    found = present_master_key(path, {})
    assert found is not None
    assert found.id == obtain_master_key(path, {}).id == made.id


def test_the_key_file_is_private_under_any_umask(tmp_path: Path) -> None:
    for umask in (0, 0o777):
        path = tmp_path / f"{umask:o}.key"
        before = os.umask(umask)
        try:
            obtain_master_key(path, {})
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_variable_wins_over_the_file_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    environ = {"SVCCTL_SECRET_KEY": base64.b64encode(bytes([1]) * 32).decode() + "\n"}
    assert obtain_master_key(path, environ).id == master(1).id
    assert not path.exists()


@pytest.mark.parametrize("value", ["", CANARY, base64.b64encode(b"short").decode(), "\udcff", "A" * 44])
def test_a_bad_variable_is_refused_without_showing_it(tmp_path: Path, value: str) -> None:
    with pytest.raises(Refused, match="SVCCTL_SECRET_KEY must be 32 bytes in base64") as refused:
        obtain_master_key(tmp_path / "secret.key", {"SVCCTL_SECRET_KEY": value})
    assert refused.value.next == "export SVCCTL_SECRET_KEY=$(head -c 32 /dev/urandom | base64)"
    assert refused.value.__cause__ is None
    assert not names_in(tmp_path)


@pytest.mark.parametrize("content", ["", "not base64", base64.b64encode(b"short").decode()])
def test_a_damaged_key_file_is_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret.key"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(Damage, match="does not hold 32 bytes in base64"):
        obtain_master_key(path, {})
    assert path.read_text() == content


def test_a_key_file_open_to_others_is_refused_with_the_command_that_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    obtain_master_key(path, {})
    path.chmod(0o644)
    with pytest.raises(Refused, match="open to other users") as refused:
        present_master_key(path, {})
    assert refused.value.next == f"chmod 600 {path}"


def test_a_fifo_in_place_of_the_key_file_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    os.mkfifo(path, 0o600)
    with pytest.raises(Damage, match="is not a file"):
        present_master_key(path, {})


OBTAIN = """
import sys
from pathlib import Path
from svcctl.sealing import obtain_master_key
sys.stdin.readline()
print(obtain_master_key(Path(sys.argv[1]), {}).id)
"""


def test_many_processes_that_need_a_key_make_one(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    command = [sys.executable, "-c", OBTAIN, str(path)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ids = {racer.communicate()[0] for racer in racers}
    assert ids == {obtain_master_key(path, {}).id + "\n"}
    assert names_in(tmp_path) == ["secret.key"]


KILLED = """
import os, signal, sys
from pathlib import Path
from svcctl.sealing import obtain_master_key
seen = 0
def step(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.remove") and sys.argv[1] in str(arguments):
        seen += 1
        if seen == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
obtain_master_key(Path(sys.argv[1]) / "secret.key", {})
"""


def test_killed_at_any_step_the_next_one_finds_a_whole_key_or_none(tmp_path: Path) -> None:
    kills = 0
    for step in range(1, 20):
        folder = tmp_path / str(step)
        folder.mkdir()
        ended = subprocess.run([sys.executable, "-c", KILLED, folder, str(step)], check=False)
        kills += ended.returncode == -signal.SIGKILL
        key = obtain_master_key(folder / "secret.key", {})
        assert names_in(folder) == ["secret.key"]
        assert present_master_key(folder / "secret.key", {}).id == key.id  # type: ignore[union-attr]
        if ended.returncode == 0:
            break
    assert kills >= 4


# ---- fingerprints and rotation


@given(a=st.tuples(texts, st.binary(max_size=20)), b=st.tuples(texts, st.binary(max_size=20)))
def test_fingerprints_tell_same_from_changed(a: tuple[str, bytes], b: tuple[str, bytes]) -> None:
    prints = [SEALER.fingerprint(name, SecretValue(value)) for name, value in (a, b)]
    assert (prints[0] == prints[1]) == (a == b)
    assert all(len(digits) == 32 for digits in prints)


def test_fingerprints_differ_between_stores() -> None:
    assert SEALER.fingerprint("A", SecretValue("x")) != sealer_of(master()).fingerprint("A", SecretValue("x"))


def test_rotation_changes_the_key_and_neither_value_nor_fingerprint() -> None:
    sealed_key = new_fingerprint_key(master(1), "store-1")
    old = Sealer(master(1), "store-1", sealed_key)
    new = Sealer(master(2), "store-1", rewrap_fingerprint_key(master(1), master(2), "store-1", sealed_key))
    before = old.seal("env-1", "TOKEN", SecretValue(CANARY))
    after = old.rewrap(new, "env-1", "TOKEN", before)
    assert sealed_with(before) == master(1).id
    assert sealed_with(after) == master(2).id
    assert new.open("env-1", "TOKEN", after).reveal() == CANARY.encode()
    assert new.fingerprint("TOKEN", SecretValue(CANARY)) == old.fingerprint("TOKEN", SecretValue(CANARY))
    with pytest.raises(Refused):
        old.open("env-1", "TOKEN", after)


def test_a_rotation_adopts_the_staged_key(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secret.key")
    old, new = file.obtain(), file.stage()
    assert old.id != new.id
    assert file.stage().id == new.id
    file.adopt()
    assert file.obtain().id == new.id
    assert names_in(tmp_path) == ["secret.key"]


def test_a_rotation_killed_after_its_commit_is_ended_by_the_next_one_to_look(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secret.key")
    file.obtain()
    new = file.stage()
    KeyFile(file.path).settle(new.id)
    assert file.obtain().id == new.id
    assert names_in(tmp_path) == ["secret.key"]
    file.adopt()
    assert file.obtain().id == new.id, "the one that was only slow finds its work done"


def test_a_rotation_that_has_not_committed_keeps_both_keys(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secret.key")
    old, new = file.obtain(), file.stage()
    KeyFile(file.path).settle(old.id)
    assert file.obtain().id == old.id
    assert KeyFile(file.path).stage().id == new.id, "the next rotation uses what is there"


def test_a_slow_rotation_does_not_adopt_the_key_of_the_one_after_it(tmp_path: Path) -> None:
    slow, next_one = KeyFile(tmp_path / "secret.key"), KeyFile(tmp_path / "secret.key")
    slow.obtain()
    committed = slow.stage()
    next_one.settle(committed.id)
    assert next_one.stage().id != committed.id
    slow.adopt()
    assert slow.obtain().id == committed.id


def test_cryptography_is_imported_when_a_value_is_sealed_and_not_before(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from svcctl.sealing import obtain_master_key, new_fingerprint_key
key = obtain_master_key(Path(sys.argv[1]), {})
assert not [name for name in sys.modules if name.startswith("cryptography")]
new_fingerprint_key(key, "store")
assert "cryptography" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "secret.key"], check=True)

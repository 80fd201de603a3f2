"""What KV allows, in Cloudflare's words, and which namespace a binding reaches: values, no store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl import keyvalues, wire
from svcctl.keyvalues import KVError, KVTypeError
from svcctl.model import Binding, EnvironmentId
from svcctl.rules import closure
from svcctl.rules.state import Bound, Identity, Place

NOW = 1_000_000.5
LATER = "Please specify integer greater than the current number of seconds since the UNIX epoch."


def refused(error: KVError) -> tuple[int, str]:
    return error.status, str(error)


# ---- keys, values, metadata


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", "Key name cannot be empty."),
        (".", '"." is not allowed as a key name.'),
        ("..", '".." is not allowed as a key name.'),
        (b"k", "A key is a str, not a bytes."),
        (None, "A key is a str, not None."),
    ],
)
def test_a_key_of_the_wrong_kind_is_a_type_error(key: object, text: str):
    with pytest.raises(KVTypeError) as caught:
        keyvalues.check_key("GET", key)
    assert str(caught.value) == text
    assert isinstance(caught.value, TypeError)


def test_a_key_is_measured_in_bytes():
    for key in ("k" * 512, "é" * 256, "😀" * 128, "...", "a b\n\x00"):
        keyvalues.check_key("PUT", key)
    for key, length in (("k" * 513, 513), ("é" * 257, 514), ("😀" * 129, 516)):
        with pytest.raises(KVError) as caught:
            keyvalues.check_key("DELETE", key)
        text = f"KV DELETE failed: 414 UTF-8 encoded length of {length} exceeds key length limit of 512."
        assert refused(caught.value) == (414, text)


@given(st.text(min_size=1))
def test_a_key_that_passes_has_utf8_of_at_most_512_bytes(key: str):
    try:
        keyvalues.check_key("PUT", key)
    except KVError:
        return
    assert 0 < len(key.encode()) <= 512


def test_half_a_surrogate_pair_is_no_key():
    with pytest.raises(KVError, match="KV PUT failed: 400"):
        keyvalues.check_key("PUT", "\ud800")


def test_values_up_to_25_mib():
    keyvalues.check_value_size(26_214_400)
    with pytest.raises(KVError) as caught:
        keyvalues.check_value_size(26_214_401)
    assert refused(caught.value) == (413, "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.")


def test_metadata_is_json_of_at_most_1024_bytes():
    assert keyvalues.metadata_of(None) is None
    assert keyvalues.metadata_of({"é": [1, None, True]}) == '{"é":[1,null,true]}'
    assert keyvalues.metadata_of("x" * 1022) == '"' + "x" * 1022 + '"'
    with pytest.raises(KVError) as caught:
        keyvalues.metadata_of("é" * 512)
    assert refused(caught.value) == (413, "KV PUT failed: 413 Metadata length of 1026 exceeds limit of 1024.")


@pytest.mark.parametrize("metadata", [object(), {1, 2}, float("nan"), b"x"])
def test_metadata_without_a_json_form(metadata: object):
    with pytest.raises(KVTypeError, match="KV metadata has no JSON form"):
        keyvalues.metadata_of(metadata)


# ---- expiry


@pytest.mark.parametrize(
    ("ttl", "expiration", "expires"),
    [
        (None, None, None),
        (60, None, 1_000_060),
        (60.9, None, 1_000_060),
        (None, 1_000_060, 1_000_060),
        (3600, 1_000_060, 1_003_600),
    ],
)
def test_when_an_entry_ends(ttl: object, expiration: object, expires: int | None):
    assert keyvalues.expires_of(NOW, ttl, expiration) == expires


@pytest.mark.parametrize(
    ("ttl", "expiration", "text"),
    [
        (0, None, "Invalid expiration_ttl of 0. Please specify integer greater than 0."),
        (-5, None, "Invalid expiration_ttl of -5. Please specify integer greater than 0."),
        ("soon", None, "Invalid expiration_ttl of soon. Please specify integer greater than 0."),
        (True, None, "Invalid expiration_ttl of True. Please specify integer greater than 0."),
        (59, None, "Invalid expiration_ttl of 59. Expiration TTL must be at least 60."),
        (
            None,
            1_000_000,
            f"Invalid expiration of 1000000. {LATER}",
        ),
        (
            None,
            float("inf"),
            f"Invalid expiration of inf. {LATER}",
        ),
        (
            None,
            1_000_030,
            "Invalid expiration of 1000030. Expiration times must be at least 60 seconds in the future.",
        ),
    ],
)
def test_an_end_that_is_refused(ttl: object, expiration: object, text: str):
    with pytest.raises(KVError) as caught:
        keyvalues.expires_of(NOW, ttl, expiration)
    assert refused(caught.value) == (400, f"KV PUT failed: 400 {text}")


def test_a_cache_ttl_is_checked_and_has_no_effect():
    keyvalues.check_cache_ttl("GET", None)
    keyvalues.check_cache_ttl("GET", 60)
    with pytest.raises(KVError) as caught:
        keyvalues.check_cache_ttl("GET", 10)
    assert str(caught.value) == "KV GET failed: 400 Invalid cache_ttl of 10. Cache TTL must be at least 60."


# ---- lists and many keys


def test_a_list_has_1000_keys_at_most():
    assert [keyvalues.limit_of(limit) for limit in (None, 1, 1000, 7.0)] == [1000, 1, 1000, 7]
    for limit, text in (
        (0, "Please specify an integer greater than 0."),
        ("ten", "Please specify an integer greater than 0."),
        (1001, "Please specify an integer less than 1000."),
    ):
        with pytest.raises(KVError) as caught:
            keyvalues.limit_of(limit)
        assert str(caught.value) == f"KV GET failed: 400 Invalid key_count_limit of {limit}. {text}"


def test_up_to_100_keys_at_once():
    keyvalues.check_keys([f"k{number}" for number in range(100)])
    with pytest.raises(KVError, match="KV GET_BULK failed: 400 You can request a maximum of 100 keys"):
        keyvalues.check_keys([f"k{number}" for number in range(101)])
    with pytest.raises(KVError, match="KV GET_BULK failed: 400 You must request a minimum of 1 key"):
        keyvalues.check_keys([])


@given(st.binary())
def test_a_cursor_keeps_its_key(key: bytes):
    assert keyvalues.key_before(keyvalues.cursor_after(key)) == key


@pytest.mark.parametrize("cursor", ["%", "é", "abc", "YQ==\n"])
def test_a_cursor_that_no_page_gave(cursor: str):
    with pytest.raises(KVError, match="KV GET failed: 400 Invalid cursor"):
        keyvalues.key_before(cursor)


# ---- namespaces

SHOP = Identity(id=EnvironmentId("aa"), service="shop", name="staging", block="staging", born=3, last=5)
LIVE = Identity(id=EnvironmentId("bb"), service="shop", name="production", block="production", last=9)


class Places:
    def __init__(self, *places: Identity) -> None:
        self._places = [Place(identity=each) for each in places]

    def place(self, service: str, name: str) -> Place | None:
        wanted = f"{service}/{name}"
        return next((each for each in self._places if each.ref == wanted and not each.identity.deleted), None)

    def by_id(self, id: EnvironmentId) -> Place | None:
        return next((each for each in self._places if each.identity.id == id), None)

    def former(self, service: str, name: str) -> EnvironmentId | None:
        del service, name
        return None


def test_a_namespace_belongs_to_one_life_of_an_environment():
    assert closure.namespace(SHOP, "CARTS", Binding(kv="carts"), Places(SHOP)) == "aa.3.carts"
    assert keyvalues.life_of("aa.3.carts") == ("aa", 3, "carts")
    assert keyvalues.life_of("dev:carts") is None


def test_a_binding_that_says_whose_reaches_that_ones():
    rates = Binding(kv="rates", environment="production")
    assert closure.namespace(SHOP, "RATES", rates, Places(SHOP, LIVE)) == "bb.0.rates"
    assert closure.namespace(SHOP, "RATES", rates, Places(SHOP)) is None


def test_what_a_head_is_bound_to_counts_not_the_name():
    renamed = Identity(id=LIVE.id, service="shop", name="live", block="production", last=9)
    rates = Binding(kv="rates", environment="production")
    bound = Identity(
        id=SHOP.id,
        service="shop",
        name="staging",
        block="staging",
        bound={"RATES": Bound(service="shop", environment=LIVE.id)},
    )
    assert closure.namespace(bound, "RATES", rates, Places(bound, renamed)) == "bb.0.rates"


@pytest.mark.parametrize("binding", [Binding(service="auth"), Binding(bucket="images"), Binding(version_metadata=True)])
def test_other_bindings_reach_no_namespace(binding: Binding):
    assert closure.namespace(SHOP, "X", binding, Places(SHOP)) is None


# ---- bindings


def test_what_was_stored_before_keeps_its_bytes():
    assert wire.canonical(Binding(kv="carts")) == b'{"kv":"carts"}'
    assert wire.canonical(Binding(service="auth", environment="production")) == (
        b'{"environment":"production","service":"auth"}'
    )


@pytest.mark.parametrize(
    ("binding", "kind", "text"),
    [
        (Binding(service="auth", entrypoint="Admin"), "service", "service auth (Admin)"),
        (Binding(version_metadata=True), "version_metadata", "version metadata"),
        (Binding(kv="rates", environment="production"), "kv", "kv rates of production"),
    ],
)
def test_a_binding_in_words(binding: Binding, kind: str, text: str):
    assert (binding.kind, str(binding)) == (kind, text)

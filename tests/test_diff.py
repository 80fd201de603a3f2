"""Diff as a pure function of two sides, and patches of two contents."""

from typing import Any

import pytest
from scene import bundle

from svcctl.digest import of_blob
from svcctl.model import Binding, File, Layer, Manifest, Overrides, Settings, Value
from svcctl.rules.diff import Side, compare
from svcctl.rules.patch import LIMIT, patch


def side(ref: str = "shop/staging@1", **fields: Any) -> Side:
    return Side(ref=ref, **fields)


def with_vars(**vars: Value) -> Side:
    return side(settings=Settings(file=Layer(vars=vars)))


def told(a: Side, b: Side) -> list[tuple[str, str, str, Any, Any]]:
    return [(each.name, each.kind, each.change, each.old, each.new) for each in compare(a, b).settings]


# ---- settings


def test_a_side_is_the_same_as_itself():
    whole = side(
        settings=Settings(
            file=Layer(vars={"A": 1}, bindings={"B": Binding(kv="b")}), cli=Overrides(secrets={"S": "f1"})
        ),
        manifest=bundle("a1").manifest,
        routes=("shop.example.com/*",),
        protected=True,
    )
    found = compare(whole, whole)
    assert found.same
    assert (found.settings, found.files, found.routes, found.protected, found.start) == ((), (), (), None, ())


def test_vars_are_compared_by_name_and_effective_value():
    a = with_vars(GONE="x", KEPT="same", LOG="info")
    b = side(
        settings=Settings(
            file=Layer(vars={"KEPT": "same", "LOG": "info"}), cli=Overrides(vars={"LOG": "debug", "N": 1})
        )
    )
    assert told(a, b) == [
        ("GONE", "var", "removed", "x", None),
        ("LOG", "var", "changed", "info", "debug"),
        ("N", "var", "added", None, 1),
    ]


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (1, 1.0), (0, False), ("1", 1), ([1], [True]), ({"a": 1}, {"a": 1.0})]
)
def test_values_that_python_calls_equal_but_a_handler_does_not_differ(old: Value, new: Value):
    assert told(with_vars(N=old), with_vars(N=new)) == [("N", "var", "changed", old, new)]


def test_the_order_of_a_table_s_keys_is_no_difference():
    assert compare(with_vars(T={"a": 1, "b": 2}), with_vars(T={"b": 2, "a": 1})).same


def test_an_override_that_says_what_the_file_says_is_no_difference():
    over = side(settings=Settings(file=Layer(vars={"LOG": "info"}), cli=Overrides(vars={"LOG": "info"})))
    assert compare(with_vars(LOG="info"), over).same


def test_secrets_are_same_or_changed_and_never_told():
    a = side(settings=Settings(cli=Overrides(secrets={"KEPT": "f1", "KEY": "f2", "OLD": "f3"})))
    b = side(settings=Settings(cli=Overrides(secrets={"KEPT": "f1", "KEY": "f9", "NEW": "f4"})))
    assert told(a, b) == [
        ("KEY", "secret", "changed", None, None),
        ("NEW", "secret", "added", None, None),
        ("OLD", "secret", "removed", None, None),
    ]


def test_bindings_are_told_as_services_toml_has_them():
    a = side(settings=Settings(file=Layer(bindings={"AUTH": Binding(service="auth")})))
    b = side(settings=Settings(file=Layer(bindings={"AUTH": Binding(service="auth", environment="production")})))
    assert told(a, b) == [
        ("AUTH", "binding", "changed", {"service": "auth"}, {"service": "auth", "environment": "production"})
    ]


def test_a_name_that_becomes_another_kind_is_removed_and_added():
    b = side(settings=Settings(file=Layer(bindings={"AUTH": Binding(service="auth")})))
    assert told(with_vars(AUTH="none"), b) == [
        ("AUTH", "var", "removed", "none", None),
        ("AUTH", "binding", "added", None, {"service": "auth"}),
    ]


def test_routes_and_protection_are_identity_and_count():
    found = compare(
        side(routes=("a.example.com/*", "b.example.com/*")), side(routes=("b.example.com/*",), protected=True)
    )
    assert [(each.route, each.change) for each in found.routes] == [("a.example.com/*", "removed")]
    assert found.protected is True
    assert not found.same


# ---- files


def manifest(**files: str) -> Manifest:
    return Manifest(
        main="worker.py",
        files=tuple(
            File(path=f"{name}.py", blob=of_blob(text.encode()), size=len(text)) for name, text in files.items()
        ),
    )


def test_files_are_compared_by_path():
    found = compare(side(manifest=manifest(a="1", b="2", c="3")), side(manifest=manifest(b="2", c="4", d="5")))
    assert [(each.path, each.change) for each in found.files] == [
        ("a.py", "removed"),
        ("c.py", "changed"),
        ("d.py", "added"),
    ]


def test_an_executable_bit_is_a_difference():
    plain = File(path="run.sh", blob=of_blob(b""), size=0)
    (found,) = compare(
        side(manifest=Manifest(main="w.py", files=(plain,))),
        side(manifest=Manifest(main="w.py", files=(File(path="run.sh", blob=of_blob(b""), size=0, executable=True),))),
    ).files
    assert found.change == "changed"


def test_how_code_starts_is_compared_where_both_have_code():
    old, new = manifest(a="1"), Manifest(main="app.py:app", files=manifest(a="1").files, python="3.12")
    assert [(each.name, each.old, each.new) for each in compare(side(manifest=old), side(manifest=new)).start] == [
        ("main", "worker.py", "app.py:app"),
        ("python", None, "3.12"),
    ]
    found = compare(side(), side(manifest=new))
    assert (found.start, [each.change for each in found.files]) == ((), ["added"])


# ---- patches


def test_a_patch_is_a_unified_diff():
    found = patch("a.py", b"one\ntwo\n", b"one\n2\n")
    assert found.text == "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n one\n-two\n+2"
    assert (found.added, found.removed, found.instead) == (1, 1, None)


def test_a_file_that_one_side_lacks():
    assert patch("a.py", None, b"x\n").text == "--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+x"
    assert patch("a.py", b"x\n", None).text == "--- a/a.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x"
    assert patch("a.py", None, b"") == patch("a.py", b"", None)


def test_a_missing_newline_at_the_end_is_told():
    found = patch("a.py", b"x", b"x\n")
    assert found.text == "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x"
    assert (found.added, found.removed) == (1, 1)


@pytest.mark.parametrize("binary", [b"\0\1", b"caf\xe9", b"\xff\xfe"])
def test_what_is_no_text_is_named(binary: bytes):
    assert patch("logo.png", b"text", binary).instead == "binary files differ"
    assert patch("logo.png", binary, None).instead == "binary files differ"


def test_what_is_too_large_is_named():
    found = patch("big.txt", b"x" * (LIMIT + 1), b"x")
    assert (found.instead, found.text) == ("too large to compare line by line (more than 512 KiB)", "")


def test_no_control_character_of_a_file_reaches_a_reader():
    found = patch("a\x1b[31m.py", b"", "red \x1b[31m\tbell \x07 \u202etxt\r\nform\x0c-feed\n".encode())
    assert found.text.split("\n")[3:] == ["+red \\x1b[31m\tbell \\x07 \\u202etxt\\r", "+form\\x0c-feed"]
    assert found.text.split("\n")[1] == "+++ b/a\\x1b[31m.py"

"""What svcctl writes into services.toml: the one thing asked for, where its author would have written it."""

import difflib

import pytest

from svcctl.config import edit, load, load_text
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Binding

ACME = """\
project = "acme"
default_environment = "staging"   # where deploys go

# Who you are.
[services.auth]
main = "auth/worker.py"
vars = { ISSUER = "https://id.example.com" }   # of the tokens

[services.shop]
main = "shop/worker.py"

[services.shop.bindings]
AUTH  = { service = "auth" }   # signs people in
RATES = { kv = "rates", environment = "staging" }
MAIL  = { service = "mail", environment = "staging" }

[services.shop.environments.staging]
vars.MODE = "test"
bindings.AUTH.service = "auth"
bindings.AUTH.environment = "staging"

[services.shop.environments.production]
routes = [
  "shop.example.com/*",   # the shop
  "example.com/shop/*",   # its old place
]
"""

INLINE = """\
project = "acme"
services.shop = {main = "shop.py", environments = {staging = {vars = {A = "1"}}}}   # small
"""

DOTTED = """\
project = "acme"
services.shop.main = "shop.py"
services.shop.environments.staging.vars.A = "1"   # one
services.auth.main = "auth.py"
services.shop.bindings.CARTS.kv = "carts"
"""


def changed(before: str, after: str) -> list[str]:
    """The lines that went and came."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_a_new_project_loads():
    project = load_text(edit.new_project("acme", {"shop": "shop/worker.py", "auth": "auth/worker.py"}))
    assert (project.name, project.default_environment, [*project.services]) == ("acme", "staging", ["shop", "auth"])


def test_a_service_gets_a_table_at_the_end():
    assert changed(ACME, edit.add_service(ACME, "pay", "pay/worker.py")) == [
        "+ ",
        "+ [services.pay]",
        '+ main = "pay/worker.py"',
    ]


def test_a_service_is_added_once():
    with pytest.raises(Refused, match=r"has a service shop already"):
        edit.add_service(ACME, "shop", "shop/worker.py")


def test_an_environment_gets_a_table_in_each_service_that_has_none():
    assert changed(ACME, edit.add_environment(ACME, "production", ["auth", "shop"])) == [
        "+ ",
        "+ [services.auth.environments.production]",
    ]


def test_an_environment_that_is_there_leaves_the_text_alone():
    assert edit.add_environment(ACME, "staging", ["shop"]) == ACME


def test_a_rename_reaches_tables_default_and_the_bindings_to_this_project():
    assert changed(ACME, edit.rename_environment(ACME, "staging", "stage")) == [
        '- default_environment = "staging"   # where deploys go',
        '+ default_environment = "stage"   # where deploys go',
        '- RATES = { kv = "rates", environment = "staging" }',
        '+ RATES = { kv = "rates", environment = "stage" }',
        "- [services.shop.environments.staging]",
        "+ [services.shop.environments.stage]",
        '- bindings.AUTH.environment = "staging"',
        '+ bindings.AUTH.environment = "stage"',
    ]


def test_a_rename_to_a_table_that_exists_is_refused():
    with pytest.raises(Refused, match=r"shop has both \[services.shop.environments.staging\] and one for production"):
        edit.rename_environment(ACME, "staging", "production")


def test_a_binding_joins_the_table_of_bindings():
    assert changed(ACME, edit.bind(ACME, "shop", "CARTS", Binding(kv="carts"))) == ['+ CARTS = { kv = "carts" }']


def test_a_binding_without_a_table_of_bindings_is_a_dotted_key():
    assert changed(ACME, edit.bind(ACME, "auth", "LOG", Binding(bucket="logs", environment="production"))) == [
        '+ bindings.LOG = { bucket = "logs", environment = "production" }'
    ]


def test_a_binding_of_an_environment_without_a_table_brings_the_table():
    assert changed(ACME, edit.bind(ACME, "auth", "LOG", Binding(bucket="logs"), "canary")) == [
        "+ ",
        "+ [services.auth.environments.canary]",
        '+ bindings.LOG = { bucket = "logs" }',
    ]


def test_a_binding_replaces_its_namesake_and_keeps_the_comment():
    assert changed(ACME, edit.bind(ACME, "shop", "AUTH", Binding(service="shop"))) == [
        '- AUTH  = { service = "auth" }   # signs people in',
        '+ AUTH  = { service = "shop" }   # signs people in',
    ]


def test_unbind_takes_one_line_out():
    assert changed(ACME, edit.unbind(ACME, "shop", "AUTH")) == ['- AUTH  = { service = "auth" }   # signs people in']


def test_unbind_takes_the_last_of_dotted_keys_out():
    dotted = 'project = "a"\n[services.a]\nmain = "a.py"\n'
    assert edit.unbind(dotted + 'bindings.A = { service = "a" }\n', "a", "A") == dotted


def test_unbind_does_not_take_an_environment_s_only_mention_out():
    only = 'project = "a"\n[services.a]\nmain = "a.py"\nenvironments.staging.bindings.A = { service = "a" }\n'
    with pytest.raises(Refused, match="can't edit"):
        edit.unbind(only, "a", "A", "staging")


def test_unbind_of_what_is_not_bound_names_what_is():
    with pytest.raises(NotFound, match=r"^\[services.shop\] has no binding RATE$") as raised:
        edit.unbind(ACME, "shop", "RATE")
    assert raised.value.hint == "did you mean RATES?"


def test_vars_join_the_ones_there_are():
    assert changed(ACME, edit.set_vars(ACME, "auth", {"ISSUER": "x", "N": 1, "T": {"a b": [True, {"c": 2.5}]}})) == [
        '- vars = { ISSUER = "https://id.example.com" }   # of the tokens',
        '+ vars = { ISSUER = "x", N = 1, T = { "a b" = [true, { c = 2.5 }] } }   # of the tokens',
    ]


def test_routes_keep_the_comments_of_the_others():
    assert changed(ACME, edit.add_routes(ACME, "shop", "production", ["a.com/*", "shop.example.com/*"])) == [
        '+   "a.com/*",',
    ]
    removed = edit.remove_routes(ACME, "shop", "production", ["example.com/shop/*"])
    assert load_text(removed).services["shop"].blocks["production"].routes == ("shop.example.com/*",)
    assert "# the shop" in removed


def test_a_route_that_is_not_there_can_t_be_removed():
    with pytest.raises(NotFound, match=r"has no route shop.example.com/$") as raised:
        edit.remove_routes(ACME, "shop", "production", ["shop.example.com/"])
    assert raised.value.hint == "did you mean shop.example.com/*?"


def test_inline_tables_stay_inline():
    assert (
        edit.set_vars(INLINE, "shop", {"B": "2"}, "staging")
        == """\
project = "acme"
services.shop = { main = "shop.py", environments = { staging = { vars = { A = "1", B = "2" } } } }   # small
"""
    )


def test_dotted_keys_stay_dotted():
    assert changed(DOTTED, edit.set_vars(DOTTED, "shop", {"B": "2"}, "staging")) == [
        '+ services.shop.environments.staging.vars.B = "2"'
    ]
    assert changed(DOTTED, edit.rename_environment(DOTTED, "staging", "next")) == [
        '- services.shop.environments.staging.vars.A = "1"   # one',
        '+ services.shop.environments.next.vars.A = "1"   # one',
    ]


def test_line_ends_of_windows_stay():
    text = ACME.replace("\n", "\r\n")
    edited = edit.add_environment(text, "canary", ["auth"])
    assert edited == edit.add_environment(ACME, "canary", ["auth"]).replace("\n", "\r\n")


def test_an_edit_that_would_break_the_file_is_refused_with_the_reason():
    with pytest.raises(UsageError) as raised:
        edit.bind(ACME, "auth", "ISSUER", Binding(kv="issuers"))
    assert raised.value.message.splitlines() == [
        "with this edit services.toml would be wrong:",
        "services.toml:8: services.auth.bindings.ISSUER: ISSUER is a var of this table too; a name means one thing",
    ]


def test_an_unknown_service_is_named_with_its_neighbour():
    with pytest.raises(NotFound, match="has no service shpo") as raised:
        edit.set_vars(ACME, "shpo", {"A": "1"})
    assert raised.value.hint == "did you mean shop?"


# ---- the file


def test_writing_keeps_the_mode_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "services.toml"
    path.write_text("old")
    path.chmod(0o640)
    edit.write(path, ACME)
    assert (path.read_text(), path.stat().st_mode & 0o777) == (ACME, 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "real").mkdir()
    path, target = tmp_path / "services.toml", tmp_path / "real" / "services.toml"
    target.write_text("old")
    path.symlink_to(target)
    edit.write(path, ACME)
    assert path.is_symlink()
    assert load(target).name == "acme"


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    edit.write(tmp_path / "services.toml", ACME)
    assert (tmp_path / "services.toml").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_that_is_gone_is_an_error_in_words(tmp_path):
    with pytest.raises(Refused, match=r"services.toml can't be written: No such file or directory$"):
        edit.write(tmp_path / "gone" / "services.toml", ACME)

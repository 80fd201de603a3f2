"""services.toml: found, read, merged and explained."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from svcctl.config import Explained, explain, find, line_of, load, load_text
from svcctl.errors import ConfigError
from svcctl.model import Binding, Block, Layer, Limits, Requires, Source

ACME = """\
project = "acme"
default_environment = "staging"
python = "3.12"

[services.auth]
python = "3.11"
main = "./auth/worker.py"

[services.shop]
main = "shop/web/app.py:app"
root = "shop/"
with = ["common/", "lib/../vendor"]
vars = { MODE = "live", LEVEL = 3, LISTS = { a = [1] } }
secrets = ["STRIPE_KEY", "AUTH_KEY"]
optional = ["LEVEL"]

[services.shop.bindings]
AUTH = { service = "auth" }
CARTS = { kv = "carts" }

[services.shop.environments.staging]
vars.MODE = "test"
vars.LISTS = { b = [2] }
secrets = ["DEBUG_KEY"]
bindings.AUTH = { service = "auth", environment = "production" }

[services.shop.environments.canary]
unset = ["CARTS", "AUTH_KEY", "LEVEL"]
bindings.LEVEL.kv = "levels"

[services.shop.environments.production]
routes = ["shop.example.com/*", "example.com/shop/*"]
protected = true
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "services.toml"
    path.write_text(ACME)
    return path


def test_the_file_is_found_from_a_folder_below(file):
    below = file.parent / "shop" / "web"
    below.mkdir(parents=True)
    assert find(below) == find(file.parent) == file


def test_without_a_file_nothing_is_found(tmp_path):
    assert find(tmp_path) is None


def test_what_the_file_leaves_out_has_defaults(file):
    project = load(file)
    assert (project.name, project.domain, project.backend, project.limits) == ("acme", "localhost", None, Limits())
    assert project.environments == {"staging", "canary", "production"}


def test_a_service_without_a_table_for_an_environment_has_its_own_settings_there():
    shop = load_text(ACME).services["shop"]
    assert shop.block("preview") == shop.base
    assert shop.base == Block(
        layer=Layer(
            vars={"MODE": "live", "LEVEL": 3, "LISTS": {"a": [1]}},
            bindings={"AUTH": Binding(service="auth"), "CARTS": Binding(kv="carts")},
        ),
        secrets=("AUTH_KEY", "STRIPE_KEY"),
    )


def test_settings_inherit_key_by_key():
    assert load_text(ACME).services["shop"].blocks["staging"] == Block(
        layer=Layer(
            vars={"MODE": "test", "LEVEL": 3, "LISTS": {"b": [2]}},
            bindings={"AUTH": Binding(service="auth", environment="production"), "CARTS": Binding(kv="carts")},
        ),
        secrets=("AUTH_KEY", "DEBUG_KEY", "STRIPE_KEY"),
    )


def test_unset_removes_a_name_that_may_then_mean_something_else():
    canary = load_text(ACME).services["shop"].blocks["canary"]
    assert canary.layer.vars == {"MODE": "live", "LISTS": {"a": [1]}}
    assert canary.layer.bindings == {"AUTH": Binding(service="auth"), "LEVEL": Binding(kv="levels")}
    assert canary.secrets == ("STRIPE_KEY",)


def test_routes_and_protection_stand_in_one_environment_alone():
    shop = load_text(ACME).services["shop"]
    assert {name: (block.routes, block.protected) for name, block in shop.blocks.items()} == {
        "staging": ((), False),
        "canary": ((), False),
        "production": (("shop.example.com/*", "example.com/shop/*"), True),
    }


def test_code_requires_the_names_of_the_service_s_own_tables_but_the_optional_ones():
    assert load_text(ACME).services["shop"].requires == Requires(
        vars=("LISTS", "MODE"), secrets=("AUTH_KEY", "STRIPE_KEY"), bindings=("AUTH", "CARTS")
    )


def test_paths_have_one_form_and_python_comes_from_the_project():
    services = load_text(ACME).services
    assert services["auth"].source == Source(main="auth/worker.py", root="auth", python="3.11")
    assert services["shop"].source == Source(
        main="shop/web/app.py:app", root="shop", python="3.12", with_=("common", "vendor")
    )


def test_the_root_of_a_service_beside_the_file_is_the_project_s_folder():
    source = load_text('project = "a"\nservices.web.main = "worker.py"\n').services["web"].source
    assert source == Source(main="worker.py", root=".")


def test_limits_can_be_set_one_by_one():
    assert load_text(f"limits = {{ file_count = 7 }}\n{ACME}").limits == Limits(file_count=7)


@pytest.mark.parametrize("service", ["mail", "api-v2", "aut"])
def test_a_binding_may_reach_another_project_s_service(service):
    text = f'{ACME}\n[services.api-v1]\nmain = "a.py"\nbindings.X.service = "{service}"\n'
    assert load_text(text).services["api-v1"].base.layer.bindings["X"] == Binding(service=service)


def test_a_binding_that_says_its_environment_is_no_slip():
    text = f'{ACME}\n[services.web]\nmain = "a.py"\nbindings.X = {{ service = "oauth", environment = "production" }}\n'
    assert load_text(text).services["web"].base.layer.bindings["X"].service == "oauth"


def test_line_ends_of_windows_and_a_byte_order_mark_are_read_over(file):
    file.write_bytes(b"\xef\xbb\xbf" + ACME.replace("\n", "\r\n").encode())
    assert load(file) == load_text(ACME)


def test_a_problem_has_its_line_with_line_ends_of_windows_too():
    with pytest.raises(ConfigError) as raised:
        load_text(ACME.replace("protected", "protect").replace("\n", "\r\n"))
    assert raised.value.problems == (
        "services.toml:33: services.shop.environments.production.protect: unknown key; did you mean protected?",
    )


# ---- where a value comes from


def told(explained: Explained) -> str:
    text = f"{explained.kind} {explained.name} = {explained.value} {explained.origin.partition(':')[2]}"
    if explained.inherited:
        text += " inherited"
    if explained.shadows:
        text += f", over {explained.shadows.value} {explained.shadows.origin.partition(':')[2]}"
    return text


def test_explain_names_the_line_of_each_effective_value(file):
    assert [told(each) for each in explain(file, load(file), "shop", "staging")] == [
        "var LEVEL = 3 13 inherited",
        "var LISTS = {'b': [2]} 23, over {'a': [1]} 13",
        "var MODE = test 22, over live 13",
        "secret AUTH_KEY = None 14 inherited",
        "secret DEBUG_KEY = None 24",
        "secret STRIPE_KEY = None 14 inherited",
        "binding AUTH = service auth of production 25, over service auth 18",
        "binding CARTS = kv carts 19 inherited",
    ]


def test_explain_ends_with_routes_and_protection(file):
    assert [told(each) for each in explain(file, load(file), "shop", "production")][-3:] == [
        "route shop.example.com/* = None 32",
        "route example.com/shop/* = None 32",
        "protected protected = True 33",
    ]


def test_explain_shows_the_service_s_settings_for_an_environment_without_a_table(file):
    project = load(file)
    assert all(each.inherited for each in explain(file, project, "shop", "preview"))
    assert explain(file, project, "auth", "preview") == ()


def test_line_of_a_name_is_the_environment_s_own_or_the_service_s(file):
    assert line_of(file, "shop", "MODE") == 13
    assert line_of(file, "shop", "MODE", "staging") == 22
    assert line_of(file, "shop", "MODE", "preview") == 13
    assert line_of(file, "shop", "DEBUG_KEY", "staging") == 24
    assert line_of(file, "shop", "DEBUG_KEY") is None
    assert line_of(file, "nothing", "MODE") is None


# ---- what stands in the file's place


def said(path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        load(path)
    return raised.value.problems


def test_a_missing_file(tmp_path):
    assert said(tmp_path / "services.toml") == (f"services.toml: not found in {tmp_path}",)


def test_a_directory(tmp_path):
    (tmp_path / "services.toml").mkdir()
    assert said(tmp_path / "services.toml") == ("services.toml: is a directory, not a file",)


def test_a_pipe_that_nobody_writes_to(file):
    file.unlink()
    os.mkfifo(file)
    assert said(file) == ("services.toml: is a named pipe, not a file",)


def test_a_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("services.toml")
        assert said(tmp_path / "services.toml") == ("services.toml: cannot be read: No such device or address",)


def test_a_device(file):
    file.unlink()
    file.symlink_to("/dev/zero")
    assert said(file) == ("services.toml: is a device, not a file",)


def test_a_broken_link_is_found_and_is_missing(file):
    file.unlink()
    file.symlink_to("nowhere")
    assert find(file.parent) == file
    assert said(file) == (f"services.toml: not found in {file.parent}",)


def test_a_link_in_a_circle(file):
    file.unlink()
    file.symlink_to(file)
    assert said(file) == ("services.toml: cannot be read: Too many levels of symbolic links",)


def test_a_file_that_is_not_utf_8(file):
    file.write_bytes(b'project = "acme"\ndomain = "\xe9"\n')
    assert said(file) == ("services.toml:2:11: is not UTF-8 text: byte 0xe9",)


def test_a_sparse_file_of_5_gb(file):
    os.truncate(file, 5_000_000_000)
    assert said(file) == ("services.toml: is 5,000,000,000 bytes; 1,000,000 is the limit",)


def test_a_file_just_beyond_the_limit(file):
    file.write_text(ACME + "#" * (1_000_001 - len(ACME)))
    assert said(file) == ("services.toml: is 1,000,001 bytes; 1,000,000 is the limit",)


@pytest.fixture
def nobody():
    """Root reads everything, so the test is someone else for a while."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.mark.usefixtures("nobody")
def test_a_file_that_may_not_be_read():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "services.toml")
        path.write_text(ACME)
        path.chmod(0)
        assert said(path) == ("services.toml: cannot be read: Permission denied",)


def test_loading_imports_nothing_that_only_editing_needs():
    loaded = "import sys, svcctl.config; print(*{'tomlkit', 'typer', 'rich', 'git'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

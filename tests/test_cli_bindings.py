"""Bindings, routes, tags and the graph from the command line."""

from pathlib import Path

import pytest
from scene import Scene
from transcript import Said, Shell

from svcctl import commands
from svcctl.errors import Refused
from svcctl.model import Binding

FILE = """\
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"

[services.shop]
main = "shop/worker.py"

[services.shop.bindings]
AUTH = { service = "auth" }   # who is it?
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Both services deployed to staging."""
    folder = tmp_path / "acme"
    for service in ("auth", "shop"):
        (folder / service).mkdir(parents=True)
        (folder / service / "worker.py").write_text("async def fetch(request, env, ctx):\n    ...\n")
    (folder / "services.toml").write_text(FILE)
    shell = Shell(folder, capsys)
    shell.done("deploy")
    return shell


# ---- bind


def test_a_binding_goes_into_the_file_and_the_next_deploy_applies_it(shell: Shell) -> None:
    assert shell.done("bind", "CARTS", "--kv", "carts", "-s", "shop") == (
        "services.toml edited\n"
        "  shop: CARTS is bound to kv carts\n"
        "note: the next deploy applies it: svcctl deploy -s shop\n"
    )
    assert shell.file.read_text() == FILE + 'CARTS = { kv = "carts" }\n'
    assert "CARTS" not in shell.done("env", "show", "shop/staging")

    shell.done("deploy", "-s", "shop")
    assert "env.CARTS:    kv carts (its own)\n" in shell.done("env", "show", "shop/staging")


def test_a_class_of_another_service_and_the_version_itself(shell: Shell) -> None:
    shell.done("bind", "ADMIN", "--service", "auth", "--entrypoint", "Admin", "-s", "shop")
    shell.done("bind", "VERSION", "--version-metadata", "-s", "shop")
    assert shell.file.read_text() == FILE + (
        'ADMIN = { service = "auth", entrypoint = "Admin" }\nVERSION = { version_metadata = true }\n'
    )
    shell.done("deploy", "-s", "shop")
    shown = shell.done("env", "show", "shop/staging")
    assert "env.ADMIN:    service auth (Admin) → auth/staging\n" in shown
    assert "env.VERSION:  version metadata\n" in shown
    assert shell.done("graph", "shop/staging").splitlines()[1:] == [
        "├── ADMIN → auth/staging@1",
        "└── AUTH → auth/staging@1",
    ]
    assert "version metadata" in shell.done("config", "show", "-s", "shop")


def test_a_binding_of_one_environment_stands_in_its_table(shell: Shell) -> None:
    shell.done("bind", "AUTH", "--service", "auth", "--environment", "production", "-s", "shop", "--env", "staging")

    assert shell.file.read_text() == FILE + (
        '\n[services.shop.environments.staging]\nbindings.AUTH = { service = "auth", environment = "production" }\n'
    )
    shell.done("deploy", "--env", "staging", "-s", "shop", "--settings-only")
    assert "env.AUTH:     service auth of production → auth/production\n" in shell.done("env", "show", "shop/staging")


def test_an_override_is_bound_at_once(shell: Shell) -> None:
    assert shell.done("bind", "CARTS", "--kv", "carts", "-s", "shop", "--cli") == (
        "configured in change c2\n  shop/staging@2: CARTS added\n"
    )
    assert shell.file.read_text() == FILE
    assert shell.done("unbind", "CARTS", "-s", "shop", "--cli") == (
        "configured in change c3\n  shop/staging@3: CARTS removed\n"
    )


def test_what_the_file_says_already_is_nothing_to_do(shell: Shell) -> None:
    assert shell.done("bind", "AUTH", "--service", "auth", "-s", "shop") == (
        "nothing to do: services.toml says so already\n"
    )
    assert shell.file.read_text() == FILE


def test_a_dry_run_leaves_the_file_alone(shell: Shell) -> None:
    assert shell.done("bind", "CARTS", "--kv", "carts", "-s", "shop", "--dry-run") == (
        "services.toml would be edited\n"
        "  shop: CARTS is bound to kv carts\n"
        "note: the next deploy applies it: svcctl deploy -s shop\n"
    )
    assert shell.file.read_text() == FILE


def test_an_edit_as_json(shell: Shell) -> None:
    assert shell("bind", "CARTS", "--kv", "carts", "-s", "shop", "--json").json == {
        "file": str(shell.file),
        "changed": True,
        "summary": ["shop: CARTS is bound to kv carts"],
        "notes": [],
        "next": "svcctl deploy -s shop",
    }


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            "bind CARTS -s shop",
            (
                "error: what does CARTS reach? Say one of --service, --kv, --bucket and --version-metadata\n"
                "hint: the service that gets it is -s\n"
            ),
        ),
        (
            "bind CARTS --kv carts --service shop",
            (
                "error: what does CARTS reach? Say one of --service, --kv, --bucket and --version-metadata\n"
                "hint: the service that gets it is -s\n"
            ),
        ),
        (
            "bind CARTS --kv carts",
            (
                "error: which service? There is auth, shop\n"
                "hint: choose one with -s\n"
                "next: svcctl bind CARTS --kv carts -s auth\n"
            ),
        ),
        (
            "bind CARTS --kv carts -s shop -m why",
            "error: --message needs --cli: an edit of services.toml is no change in the store\n",
        ),
        (
            "bind 1ST --kv carts -s shop",
            "error: '1ST' must start with a letter or _ and hold only letters, digits and _\n",
        ),
        (
            "bind CARTS --kv carts --entrypoint Admin -s shop",
            "error: --entrypoint names a class of another service\nhint: it goes with --service\n",
        ),
        (
            "bind ADMIN --service auth --entrypoint 9to5 -s shop",
            "error: '9to5' must start with a letter or _ and hold only letters, digits and _\n",
        ),
        (
            "bind VERSION --version-metadata --environment production -s shop",
            ("error: --environment has no meaning with --version-metadata: a handler is its own version\n"),
        ),
        ("bind CARTS --kv Carts -s shop", "error: 'Carts' must start with a letter a-z and hold only a-z, 0-9 and -\n"),
    ],
)
def test_a_binding_that_makes_no_sense(shell: Shell, words: str, error: str) -> None:
    assert shell(*words.split()) == Said(2, "", error)
    assert shell.file.read_text() == FILE


def test_an_override_needs_what_it_leads_to_or_force_and_a_yes(shell: Shell) -> None:
    words = ["bind", "PAY", "--service", "pay", "-s", "shop", "--cli"]
    assert shell(*words) == Said(
        1,
        "",
        "error: shop/staging: binding PAY leads to pay/production, which does not exist\n"
        "hint: a binding needs what it leads to (--force overrides)\n"
        "next: svcctl deploy -s pay --env production\n",
    )
    assert shell(*words, "--force").status == 5
    assert shell.done(*words, "--force", "--yes") == (
        "configured in change c2\n"
        "  shop/staging@2: PAY added\n"
        "note: forced: shop/staging: binding PAY leads to pay/production, which does not exist\n"
    )
    assert "env.PAY:      service pay: leads nowhere\n" in shell.done("env", "show", "shop/staging")


def test_a_binding_that_led_nowhere_before_stops_no_other_change(scene: Scene) -> None:
    """At 3 a.m. a log level must go up, whatever else was forced."""
    scene.deploy(shop="a1", auth="b1")
    nowhere = {"PAY": Binding(service="pay")}
    where = {"environment": "staging", "services": ("shop",)}
    scene.do(commands.Configure, **where, bindings=nowhere, force=True)

    assert scene.vars("staging", shop={"LOG": "debug"}).changed
    with pytest.raises(Refused, match="binding BANK leads to bank/production, which does not exist"):
        scene.do(commands.Configure, **where, bindings={"BANK": Binding(service="bank")})


# ---- unbind


def test_a_binding_is_taken_out_of_the_file(shell: Shell) -> None:
    assert shell.done("unbind", "AUTH", "-s", "shop") == (
        "services.toml edited\n  shop: binding AUTH removed\nnote: the next deploy applies it: svcctl deploy -s shop\n"
    )
    assert "AUTH" not in shell.file.read_text()


def test_each_place_points_to_the_other(shell: Shell) -> None:
    shell.done("bind", "CARTS", "--kv", "carts", "-s", "shop", "--cli")

    assert shell("unbind", "CARTS", "-s", "shop") == Said(
        3,
        "",
        "error: [services.shop] has no binding CARTS\nhint: there is AUTH; what was made with --cli goes with --cli\n",
    )
    assert shell("unbind", "AUTH", "-s", "shop", "--cli") == Said(
        1,
        "",
        "error: AUTH is set by services.toml, not from the command line\n"
        "hint: take it out of the file (or list it under `unset`) and deploy\n",
    )


# ---- routes


def test_a_route_goes_into_the_file_and_the_next_deploy_applies_it(shell: Shell) -> None:
    assert shell.done("routes", "add", "shop.example.com/*", "-s", "shop") == (
        "services.toml edited\n"
        "  shop/production: route shop.example.com/* added\n"
        "note: the next deploy applies it: svcctl deploy -s shop --env production --settings-only\n"
    )
    assert shell.done("routes", "list") == (
        "no routes yet\n"
        "note: shop.example.com/* to shop/production waits in services.toml: "
        "svcctl deploy -s shop --env production --settings-only\n"
    )
    shell.done("deploy", "-s", "shop", "--env", "production", "--settings-only")
    assert shell.done("routes", "list") == (
        "ROUTE               LEADS TO         STANDS IN\nshop.example.com/*  shop/production  services.toml\n"
    )
    shell.done("routes", "remove", "shop.example.com/*", "-s", "shop")
    assert "shop.example.com" not in shell.file.read_text()


def test_a_route_on_top_of_the_file_holds_at_once(shell: Shell) -> None:
    assert shell.done(
        "routes", "add", "a.example.com/*", "b.example.com/x", "-s", "shop", "-e", "staging", "--cli"
    ) == ("done in change c2\n  shop/staging: route a.example.com/* added, route b.example.com/x added\n")
    assert shell("routes", "list", "--json").json == {
        "routes": [
            {"route": "a.example.com/*", "ref": "shop/staging", "file": False},
            {"route": "b.example.com/x", "ref": "shop/staging", "file": False},
        ]
    }
    assert shell("routes", "remove", "a.example.com/*", "-s", "shop", "-e", "staging") == Said(
        3,
        "",
        "error: [services.shop.environments.staging] has no route a.example.com/*\n"
        "hint: what was made with --cli goes with --cli\n",
    )
    assert shell.done("routes", "remove", "a.example.com/*", "-s", "shop", "-e", "staging", "--cli") == (
        "done in change c3\n  shop/staging: route a.example.com/* removed\n"
    )


@pytest.mark.parametrize("layer", [(), ("--cli",)])
def test_a_route_needs_a_path(shell: Shell, layer: tuple[str, ...]) -> None:
    assert shell("routes", "add", "shop.example.com", "-s", "shop", *layer) == Said(
        2,
        "",
        "error: 'shop.example.com' is no route: needs a path; shop.example.com/* means every path\n"
        "hint: a route is HOST/PATH: shop.example.com/*\n",
    )


def test_a_route_that_is_taken_is_not_taken_over(shell: Shell) -> None:
    shell.done("routes", "add", "shop.example.com/*", "-s", "shop", "--cli")

    assert shell("routes", "add", "shop.example.com/*", "-s", "auth", "--cli") == Said(
        1,
        "",
        "error: shop.example.com/* is taken by shop/production\n"
        "hint: auth/production can have it once shop/production has given it up; nothing is taken over\n",
    )


# ---- tags


def test_a_version_gets_a_name_and_loses_it(shell: Shell) -> None:
    assert shell.done("tag", "shop/staging", "v1.4.0") == "done in change c2\n  shop/staging@1: tagged v1.4.0\n"
    assert shell.done("tag", "shop/staging@1", "v1.4.0") == (
        "nothing to do\nnote: shop/staging@1: is tagged v1.4.0 already\n"
    )
    shell.done("bind", "CARTS", "--kv", "carts", "-s", "shop", "--cli")
    assert shell("tag", "shop/staging@2", "v1.4.0") == Said(
        1,
        "",
        "error: tag 'v1.4.0' is on shop/staging@1 already\n"
        "hint: a tag names one version of an environment\n"
        "next: svcctl tag shop/staging@1 v1.4.0 --remove\n",
    )
    assert shell.done("tag", "shop/staging@v1.4.0", "v1.4.0", "--remove") == (
        "done in change c4\n  shop/staging@1: tag v1.4.0 removed\n"
    )


def test_without_a_service_the_heads_of_all_are_tagged(shell: Shell) -> None:
    assert shell.done("tag", "staging", "v1") == (
        "done in change c2\n  auth/staging@1: tagged v1\n  shop/staging@1: tagged v1\n"
    )


def test_a_tag_that_reads_as_a_number_is_refused(shell: Shell) -> None:
    assert shell("tag", "staging", "12") == Said(
        2, "", "error: tag '12' would read as a version (12) or a change (c12)\n"
    )


# ---- graph


def test_the_graph_shows_who_calls_whom(shell: Shell) -> None:
    assert shell.done("graph") == "shop/staging@1\n└── AUTH → auth/staging@1\n"
    assert shell.done("graph", "auth/staging") == "auth/staging@1\n"
    assert shell.done("graph", "production") == "auth/production (no version)\nshop/production (no version)\n"


def test_a_circle_is_shown_and_not_followed(shell: Shell) -> None:
    shell.done("bind", "SHOP", "--service", "shop", "-s", "auth", "--cli")
    shell.done("bind", "SELF", "--service", "shop", "-s", "shop", "--cli")

    assert shell.done("graph") == (
        "auth/staging@2\n"
        "└── SHOP → shop/staging@2\n"
        "    ├── AUTH → auth/staging@2 (a circle)\n"
        "    └── SELF → shop/staging@2 (a circle)\n"
    )


def test_what_was_drawn_is_not_drawn_again(shell: Shell) -> None:
    for name in ("one", "two"):
        shell.file.write_text(shell.file.read_text() + f'\n[services.{name}]\nmain = "auth/worker.py"\n')
        shell.done("bind", "SHOP", "--service", "shop", "-s", name)
    shell.done("deploy")

    assert shell.done("graph") == (
        "one/staging@1\n"
        "└── SHOP → shop/staging@1\n"
        "    └── AUTH → auth/staging@1\n"
        "two/staging@1\n"
        "└── SHOP → shop/staging@1 (drawn already)\n"
    )


def test_the_graph_as_mermaid(shell: Shell) -> None:
    assert shell.done("graph", "--format", "mermaid") == (
        'flowchart LR\n    n0["auth/staging@1"]\n    n1["shop/staging@1"]\n    n1 -->|"AUTH"| n0\n'
    )


@pytest.mark.parametrize("words", [("--format", "json"), ("--json",)])
def test_the_graph_as_json(shell: Shell, words: tuple[str, ...]) -> None:
    found = shell("graph", *words).json

    assert found["roots"] == ["auth/staging", "shop/staging"]
    assert [(node["ref"], node["version"], node["bindings"]) for node in found["nodes"]] == [
        ("auth/staging", 1, {}),
        ("shop/staging", 1, {"AUTH": "auth/staging"}),
    ]


def test_a_graph_of_an_old_version_is_refused(shell: Shell) -> None:
    assert shell("graph", "shop/staging@1") == Said(
        2, "", "error: 'shop/staging@1' is one version; a graph shows what runs now\nnext: svcctl graph\n"
    )

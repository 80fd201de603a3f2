"""`svcctl kv`, and clones that copy or share: as typed."""

import json
import subprocess
from pathlib import Path

import pytest
from processes import Acme
from transcript import Said, Shell

from svcctl.backend.store.gc import Swept
from svcctl.cli.commands import gc
from svcctl.cli.output import Lines, Success

FILE = """\
project = "acme"
default_environment = "staging"

[services.shop]
main = "shop/worker.py"

[services.shop.bindings]
CARTS = { kv = "carts" }
RATES = { kv = "rates", environment = "production" }
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    folder = tmp_path / "acme"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop/worker.py").write_text("async def fetch(request, env, ctx):\n    ...\n")
    (folder / "services.toml").write_text(FILE)
    shell = Shell(folder, capsys)
    shell.done("deploy")
    return shell


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    """In processes of its own: standard input, bytes, kills."""
    acme = Acme.new(tmp_path)
    with (acme.folder / "services.toml").open("a") as file:
        file.write('bindings.CARTS = { kv = "carts" }\n')
    acme.done("deploy")
    return acme


# ---- keys


def test_a_key_by_the_namespaces_label_or_by_its_binding(shell: Shell) -> None:
    assert shell.done("kv", "key", "put", "carts", "ada", "apples") == "shop/staging: CARTS has ada (6 bytes)\n"
    assert shell.done("kv", "key", "get", "CARTS", "ada") == "apples"
    assert shell.done("kv", "key", "put", "--binding", "CARTS", "ada", "p") == "shop/staging: CARTS has ada (1 byte)\n"
    assert shell.done("kv", "key", "get", "ada", "-b", "carts") == "p"
    assert shell.done("kv", "key", "delete", "carts", "ada") == "shop/staging: CARTS ada deleted\n"
    assert shell("kv", "key", "get", "carts", "ada") == Said(3, "", "error: shop/staging: CARTS has no key 'ada'\n")
    assert shell.done("kv", "key", "delete", "carts", "ada") == "shop/staging: CARTS has no ada: nothing to do\n"


def test_environments_do_not_see_one_another(shell: Shell) -> None:
    shell.done("env", "clone", "staging", "preview")
    shell.done("kv", "key", "put", "carts", "k", "1")
    assert shell("kv", "key", "get", "carts", "k", "--env", "preview").status == 3
    shell.done("kv", "key", "put", "rates", "k", "2")
    assert shell.done("kv", "key", "get", "rates", "k", "--env", "shop/preview") == "2"


def test_the_answers_of_a_program(shell: Shell) -> None:
    put = shell("kv", "key", "put", "carts", "k", "v", "--ttl", "2h", "--metadata", '{"n": 1}', "--json").json
    expiration = put.pop("expiration")
    assert put == {"ref": "shop/staging", "binding": "CARTS", "key": "k", "size": 1}
    entry = {"key": "k", "value": "v", "base64": False, "expiration": expiration, "metadata": {"n": 1}}
    assert shell("kv", "key", "get", "carts", "k", "--json").json == entry
    assert shell("kv", "key", "list", "carts", "--json").json == {
        "keys": [{"name": "k", "expiration": expiration, "metadata": {"n": 1}}],
        "next": None,
    }
    assert shell("kv", "export", "carts", "--json").json == {"entries": [entry]}
    assert shell("kv", "key", "delete", "carts", "k", "--json").json == {
        "ref": "shop/staging",
        "binding": "CARTS",
        "key": "k",
        "changed": True,
    }


def test_a_list_and_its_pages(shell: Shell) -> None:
    assert shell.done("kv", "key", "list", "carts") == "no keys\n"
    for key in ("user:2", "user:1", "visit"):
        shell.done("kv", "key", "put", "carts", key, "x")
    shell.done("kv", "key", "put", "carts", "user:3", "x", "--metadata", '"m"', "--ttl", "100")
    assert shell.done("kv", "key", "list", "carts", "--prefix", "user:") == (
        "KEY     EXPIRES               METADATA\n"
        "user:1  -                     -\n"
        "user:2  -                     -\n"
        'user:3  TIME  "m"\n'
    )
    page = shell.done("kv", "key", "list", "carts", "--limit", "3")
    assert page.splitlines()[-1].startswith("note: there is more: svcctl kv key list carts --limit 3 --cursor ")
    cursor = page.split()[-1]
    assert shell.done("kv", "key", "list", "carts", "--limit", "3", "--cursor", cursor).splitlines()[1:] == [
        "visit  -        -"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "kv key get cart k",
            Said(
                3,
                "",
                (
                    "error: shop/staging has no KV binding 'cart'\n"
                    "hint: did you mean carts?\n"
                    "next: svcctl env show shop/staging\n"
                ),
            ),
        ),
        (
            "kv key list",
            Said(
                2,
                "",
                "error: which namespace? Name its binding or its label\nhint: first, or with --binding\n",
            ),
        ),
        ("kv key get carts", Said(2, "", "error: give one KEY\n")),
        (
            "kv key put carts k v --path services.toml",
            Said(
                2,
                "",
                "error: give a KEY, and its value once: as VALUE, with --path or on standard input\n",
            ),
        ),
        ("kv key put carts .. v", Said(2, "", 'error: ".." is not allowed as a key name.\n')),
        (
            "kv key put carts k v --ttl 5",
            Said(2, "", "error: KV PUT failed: 400 Invalid expiration_ttl of 5. Expiration TTL must be at least 60.\n"),
        ),
        (
            "kv key put carts k --path nothing",
            Said(3, "", "error: there is no file nothing\n"),
        ),
        ("kv key list carts --cursor ?", Said(2, "", "error: KV GET failed: 400 Invalid cursor\n")),
    ],
)
def test_what_can_not_be_done(words: str, said: Said, shell: Shell) -> None:
    assert shell(*words.split()) == said


def test_metadata_that_is_no_json(shell: Shell) -> None:
    said = shell("kv", "key", "put", "carts", "k", "v", "--metadata", "{")
    assert said.status == 2
    assert said.err.startswith("error: --metadata: is not JSON (")


def test_any_bytes_from_standard_input_or_a_file(acme: Acme) -> None:
    content = bytes(range(256)) * 300
    (acme.folder / "value").write_bytes(content)
    acme.done("kv", "key", "put", "carts", "file", "--path", "value", "-s", "shop")
    words = [*acme.program, "kv", "key", "get", "carts", "file", "-s", "shop"]
    got = subprocess.run(words, cwd=acme.folder, env=acme.environ(), capture_output=True, check=True)
    assert got.stdout == content
    acme.done("kv", "key", "put", "carts", "typed", "-s", "shop", typed="line\n")
    assert acme.done("kv", "key", "get", "carts", "typed", "-s", "shop").out == "line\n"
    assert acme.done("kv", "key", "get", "carts", "file", "-s", "shop", "--json").json["base64"] is True


# ---- import and export


def test_what_was_exported_is_imported(acme: Acme) -> None:
    (acme.folder / "binary").write_bytes(b"\xff\x00")
    acme.done("kv", "key", "put", "carts", "binary", "--path", "binary", "-s", "shop")
    acme.done("kv", "key", "put", "carts", "é\x1b[31m", "\x1b]0;owned\x07\x7f", "-s", "shop")
    acme.done("kv", "key", "put", "carts", "meta", "v", "--ttl", "1h", "--metadata", "[1]", "-s", "shop")
    exported = acme.done("kv", "export", "carts", "-s", "shop").out
    assert exported.isascii()
    assert "\x1b" not in exported
    assert "\x7f" not in exported
    assert json.loads(exported.splitlines()[0]) == {"key": "binary", "value": "/wA=", "base64": True}

    acme.done("env", "clone", "staging", "preview")
    (acme.folder / "entries").write_text(exported)
    said = acme.done("kv", "import", "carts", "entries", "-s", "shop", "--env", "preview").out
    assert said == "shop/preview: CARTS has 3 imported entries\n"
    assert acme.done("kv", "export", "carts", "-s", "shop", "--env", "preview").out == exported
    acme.done("kv", "import", "carts", "-", "-s", "shop", "--env", "preview", typed=exported)


def test_wranglers_bulk_file_is_imported(shell: Shell) -> None:
    entries = [
        {"key": "a", "value": "1", "expiration_ttl": 100, "metadata": {"m": 1}},
        {"key": "b", "value": "Mg==", "base64": True},
        {"key": "past", "value": "3", "expiration": 1000},
    ]
    (shell.folder / "bulk.json").write_text(json.dumps(entries, indent=2))
    assert shell.done("kv", "import", "carts", "bulk.json") == (
        "shop/staging: CARTS has 2 imported entries\nnote: 1 line left out: expired by now\n"
    )
    assert shell.done("kv", "key", "get", "carts", "b") == "2"
    (key, _) = shell("kv", "key", "list", "carts", "--json").json["keys"]
    assert key["metadata"] == {"m": 1}
    assert key["expiration"] is not None


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "entries:2: is not JSON ("),
        ('{"key": "b"}', "entries:2: Object missing required field `value`"),
        ('{"key": "", "value": "x"}', "entries:2: Key name cannot be empty."),
        ('{"key": "b", "value": "%", "base64": true}', "entries:2: "),
        ('{"key": "b", "value": "x", "ttl": 1}', "entries:2: Object contains unknown field `ttl`"),
        ('{"key": "b", "value": "x", "expiration_ttl": 1}', "entries:2: KV PUT failed: 400 Invalid expiration_ttl"),
        ('{"key": "b", "value": 1}', "entries:2: Expected `str`, got `int`"),
    ],
)
def test_an_import_with_one_wrong_line_writes_nothing(line: str, wrong: str, shell: Shell) -> None:
    (shell.folder / "entries").write_text('{"key": "a", "value": "x"}\n' + line + "\n")
    said = shell("kv", "import", "carts", "entries")
    assert said.status == 2
    assert said.err.startswith(f"error: {wrong}")
    assert said.err.endswith("hint: nothing was written\n")
    assert shell.done("kv", "key", "list", "carts") == "no keys\n"


def test_a_large_import_goes_in_steps(shell: Shell) -> None:
    lines = "".join(json.dumps({"key": f"k{number:04}", "value": "x"}) + "\n" for number in range(1200))
    (shell.folder / "entries").write_text(lines)
    assert shell.done("kv", "import", "carts", "entries") == "shop/staging: CARTS has 1,200 imported entries\n"
    assert shell.done("kv", "export", "carts", "--prefix", "k11").count("\n") == 100


# ---- clones


def test_a_clone_that_copies(shell: Shell) -> None:
    shell.done("kv", "key", "put", "carts", "ada", "apples")
    assert shell.done("env", "clone", "staging", "preview", "--copy", "carts") == (
        "cloned in change c2\n"
        "  shop/preview@1: cloned from shop/staging@1\n"
        "  shop/preview:  preview--shop.localhost\n"
        "  shop/preview: carts: 1 entry copied from shop/staging\n"
    )
    assert shell.done("kv", "key", "get", "carts", "ada", "--env", "preview") == "apples"
    shell.done("kv", "key", "delete", "carts", "ada", "--env", "preview")
    assert shell.done("kv", "key", "get", "carts", "ada") == "apples"


def test_a_clone_that_shares(shell: Shell) -> None:
    shell.done("kv", "key", "put", "carts", "ada", "apples")
    shell.done("env", "clone", "staging", "preview", "--share", "CARTS")
    assert shell.done("kv", "key", "get", "carts", "ada", "--env", "preview") == "apples"
    assert "env.CARTS:    kv carts of staging\n" in shell.done("env", "show", "preview")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("--copy cart", 3, "error: staging has no KV binding 'cart'\nhint: did you mean carts?\n"),
        ("--share cart", 3, "error: staging has no KV binding 'cart'\nhint: did you mean carts?\n"),
        (
            "--copy rates",
            1,
            (
                "error: rates is the namespace of production: a clone of staging uses the same one\n"
                "hint: leave --copy out\n"
            ),
        ),
        ("--copy CARTS --share CARTS", 2, "error: CARTS: either --copy or --share\n"),
    ],
)
def test_nothing_is_cloned_for_a_name_that_means_nothing(words: str, status: int, said: str, shell: Shell) -> None:
    assert shell("env", "clone", "staging", "preview", *words.split()) == Said(status, "", said)
    assert "preview" not in shell.done("env", "list")


def test_a_dry_run_says_that_entries_come_after(shell: Shell) -> None:
    said = shell("env", "clone", "staging", "preview", "--copy", "carts", "--dry-run")
    assert (said.status, said.err) == (0, "note: after that, the entries of carts are copied\n")


@pytest.mark.parametrize("point", ["apply.committed", "kv.copying", "kv.before-commit", "kv.committed"])
def test_a_clone_killed_before_its_entries_were_copied_is_typed_again(point: str, acme: Acme) -> None:
    where = ("-s", "shop")
    acme.done("kv", "key", "put", "carts", "k", "v", *where)
    words = ("env", "clone", "staging", "preview", "--copy", "CARTS")
    acme.killed(*words, at=point)
    changes = acme.changes()
    copied = "copied already" if point == "kv.committed" else "1 entry copied"
    assert f"  shop/preview: carts: {copied} from shop/staging\n" in acme.done(*words).out
    assert acme.done("kv", "key", "get", "carts", "k", *where, "--env", "preview").out == "v"
    assert acme.changes() == changes


def test_gc_names_the_namespaces_of_deleted_environments() -> None:
    swept = Swept(artifacts=0, blobs=0, bytes=0, leftovers=(), namespaces=("carts of shop/preview, deleted …",))
    assert list(gc._blocks(swept)) == [
        Success("removed 1 KV namespace (0 bytes of blobs)"),
        Lines(["  carts of shop/preview, deleted …"]),
    ]

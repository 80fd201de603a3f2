"""A team's command line: login, names for backends, and every command over the API, each as its own process."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Acme, Ended
from test_api_processes import Process

KEYRING = """\
import json, os
from keyring.backend import KeyringBackend

class InFile(KeyringBackend):
    priority = 1

    def _all(self):
        return json.load(open(os.environ["FILE"])) if os.path.exists(os.environ["FILE"]) else {}

    def _keep(self, found):
        json.dump(found, open(os.environ["FILE"], "w"))

    def get_password(self, service, username):
        return self._all().get(f"{service} {username}")

    def set_password(self, service, username, password):
        self._keep(self._all() | {f"{service} {username}": password})

    def delete_password(self, service, username):
        found = self._all()
        del found[f"{service} {username}"]
        self._keep(found)
"""


class Desk(Acme):
    """Ada's machine, and an API that she has an admin's token for."""

    api: Process
    token: str

    def to_api(self, *words: str, **more: Any) -> Ended:
        return self(*words, **{"SVCCTL_BACKEND": self.api.url, "SVCCTL_TOKEN": self.token} | more)

    def told(self, *words: str, **more: Any) -> Any:
        """What --json says, of a command that must be done."""
        ended = self.to_api(*words, "--json", **more)
        assert ended.status == 0, (words, ended)
        return ended.json


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    Acme.new(tmp_path)
    desk = Desk(tmp_path)
    made = desk.done("--backend", "store", "token", "create", "--name", "ada", "--role", "admin", "--json")
    desk.token = made.json["secret"]
    desk.api = Process(desk, "--store", "store")
    yield desk
    if desk.api.process.poll() is None:
        desk.api.ended(signal.SIGKILL)


# ---- logging in


def test_login_tries_the_token_and_keeps_it_for_the_user_alone(desk: Desk):
    url = desk.api.url
    done = desk("login", url, typed=desk.token + "\n")
    assert done.status == 0
    assert done.out == (
        f"backend:  {url}\nname:     ada\nrole:     admin\nscope:    all services in all environments\n"
        f"logged in to {url}\n"
    )
    file = desk.home / ".config/svcctl/tokens.json"
    assert done.err == f"note: there is no keyring here: the token is in {file}, in clear\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(file.read_text()) == {url: desk.token}
    assert desk("--backend", url, "whoami", "--json").json == {
        "backend": url,
        "name": "ada",
        "role": "admin",
        "services": ["*"],
        "environments": ["*"],
        "expires": None,
    }
    assert desk("logout", url).out == f"the token for {url} is forgotten\n"
    assert not file.exists()
    assert desk("logout", url).out == f"no token for {url} was kept\n"
    lost = desk("--backend", url, "whoami")
    assert lost.status == 6
    assert lost.err == f"error: no token for {url} is known here\nnext: svcctl login {url}\n"


def test_a_keyring_keeps_the_token_where_there_is_one(desk: Desk, tmp_path: Path):
    (tmp_path / "own_keyring.py").write_text(KEYRING)
    kept = tmp_path / "keyring.json"
    ring = {"PYTHONPATH": str(tmp_path), "PYTHON_KEYRING_BACKEND": "own_keyring.InFile", "FILE": str(kept)}
    done = desk.done("login", desk.api.url, typed=desk.token, **ring)
    assert done.err == ""
    assert json.loads(kept.read_text()) == {f"svcctl {desk.api.url}": desk.token}
    assert not (desk.home / ".config/svcctl/tokens.json").exists()
    assert desk.done("--backend", desk.api.url, "whoami", "--json", **ring).json["name"] == "ada"
    unchosen = {name: value for name, value in ring.items() if name != "PYTHON_KEYRING_BACKEND"}
    assert desk.done("--backend", desk.api.url, "whoami", **unchosen).err == ""  # the one that kept it is asked first
    other = ring | {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    assert desk("--backend", desk.api.url, "whoami", **other).status == 6
    desk.done("logout", desk.api.url, **ring)
    assert json.loads(kept.read_text()) == {}
    assert not (desk.home / ".config/svcctl/keyrings.json").exists()


@pytest.mark.parametrize("chosen", ["nobody.Keyring", "keyring.backends.null.Nothing", "keyring.backends.fail"])
def test_a_keyring_that_can_not_be_used_is_said_so(desk: Desk, chosen: str):
    refused = desk("--backend", desk.api.url, "whoami", PYTHON_KEYRING_BACKEND=chosen)
    assert refused.status == 1
    assert refused.err.startswith("error: the keyring that was chosen can't be used: ")
    assert refused.err.endswith("hint: look at PYTHON_KEYRING_BACKEND\n")


@pytest.mark.parametrize("typed", ["", "hunter2", "svc_" + "a" * 49])
def test_what_is_no_token_is_sent_nowhere(desk: Desk, typed: str):
    refused = desk("login", desk.api.url, typed=typed)
    assert refused.status == 2
    assert not typed or typed not in refused.err
    assert desk.api.process.poll() is None
    refused = desk("history", SVCCTL_BACKEND=desk.api.url, SVCCTL_TOKEN=typed or "x")
    assert refused.status == 2
    assert "SVCCTL_TOKEN is not a token of svcctl" in refused.err


def test_who_logs_in_in_vain_is_told_where_the_token_comes_from(desk: Desk):
    desk.done("--backend", "store", "token", "revoke", "ada")
    refused = desk.to_api("history")
    assert refused.status == 6
    assert refused.err.endswith("\nhint: the token comes from SVCCTL_TOKEN\n")
    assert desk("login", desk.api.url, typed=desk.token).err.endswith(f"\nnext: svcctl login {desk.api.url}\n")


def test_a_token_that_the_api_does_not_know_is_not_kept(desk: Desk):
    desk.done("--backend", "store", "token", "revoke", "ada")
    refused = desk("login", desk.api.url, typed=desk.token)
    assert refused.status == 6
    assert "was revoked" in refused.err
    assert not (desk.home / ".config/svcctl/tokens.json").exists()


def test_a_store_of_this_machine_asks_for_no_token(desk: Desk):
    assert desk("login").status == 2
    assert desk.done("whoami", "--json").json["role"] == "admin"


# ---- names


def test_a_backend_with_a_name_is_used_by_it(desk: Desk):
    url = desk.api.url
    assert desk("backend", "add", "team", url).out == f"team is {url}\n"
    desk.done("login", "team", typed=desk.token)
    assert desk.done("--backend", "team", "whoami", "--json").json["backend"] == url
    desk.done("deploy")
    assert desk.done("backend", "use", "team").out == f"this checkout works on {url}\n"
    assert desk.done("history", "--json").json["versions"] == []
    assert desk.done("backend", "list", "--json").json == {"backends": [{"name": "team", "url": url, "used": True}]}
    assert desk.done("backend", "use", "local").out == f"this checkout works on {desk.store}\n"
    assert len(desk.done("history", "--json").json["versions"]) == 2
    desk.done("backend", "use")
    assert not (desk.store / "backend").exists()


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("add", "Team", "https://svc.example.com"), 2, "is no name"),
        (("add", "local", "https://svc.example.com"), 2, "is no name"),
        (("add", "team", "store"), 2, "names are for APIs"),
        (("add", "team", "https://ada:hunter2@svc.example.com"), 2, "must not hold credentials"),
        (("add", "team", "http://svc.example.com"), 2, "plain http"),
        (("use", "nobody"), 3, "no backend 'nobody' is known here"),
    ],
)
def test_what_is_no_backend_gets_no_name(desk: Desk, words: tuple[str, ...], status: int, says: str):
    refused = desk("backend", *words)
    assert refused.status == status
    assert says in refused.err
    assert "hunter2" not in refused.err
    assert not (desk.home / ".config/svcctl/backends.json").exists()


def test_services_toml_names_the_backend_of_a_team(desk: Desk):
    file = desk.folder / "services.toml"
    file.write_text(f'backend = "{desk.api.url}"\n' + file.read_text())
    desk.done("deploy", SVCCTL_TOKEN=desk.token)
    assert desk.done("history", "--json", SVCCTL_TOKEN=desk.token).json["versions"][0]["actor"] == "ada"
    assert not (desk.store / "ledger.db").exists()


# ---- every command


def test_a_token_for_one_service_deploys_it_though_it_is_bound_to_another(desk: Desk):
    desk.told("deploy")
    ci = desk.told("token", "create", "--name", "ci", "--role", "deployer", "--service", "shop")["secret"]
    (desk.folder / "shop/worker.py").write_text((desk.folder / "shop/worker.py").read_text() + "# more\n")
    deployed = desk.told("deploy", "-s", "shop", SVCCTL_TOKEN=ci)
    assert deployed["touched"] == ["shop/staging"]
    refused = desk.to_api("deploy", SVCCTL_TOKEN=ci)
    assert (refused.status, refused.err.partition(" is ")[0]) == (6, "error: auth/staging")


def test_a_team_s_day(desk: Desk):
    assert desk.told("deploy")["actor"] == "ada"
    assert desk.told("promote", "staging", "production", "--yes")["changed"]
    assert desk.told("vars", "set", "LOG=debug", "-s", "shop", "--env", "production")["versions"][0]["number"] == 2
    assert desk.told("rollback", "--yes")["versions"][0]["restores"]["settings"] == 1
    assert desk.told("secrets", "set", "KEY", "-s", "shop", "--env", "staging", typed="hunter2")["changed"]
    assert desk.told("tag", "shop/production@1", "v1")["changed"]
    assert desk.told("env", "clone", "staging", "qa", "--ttl", "7d")["changed"]
    assert desk.told("env", "rename", "qa", "lab")["changed"]
    assert desk.told("env", "list")["environments"]
    assert desk.told("env", "show", "shop/lab")
    assert desk.told("env", "delete", "lab", "--confirm", "lab")["changed"]
    assert desk.told("status")
    assert desk.told("graph", "staging")
    assert desk.told("config", "show", "--env", "staging")
    assert desk.told("show", "shop/production@v1")["number"] == 1
    assert desk.told("diff", "shop/staging", "shop/production")
    assert desk.told("where", desk.told("history")["versions"][0]["code"]["digest"][:12])
    assert desk.told("audit")["changes"][0]["kind"] == "delete"
    assert desk.told("artifact", "get", "shop/production", "out")
    assert (desk.folder / "out/worker.py").read_text() == (desk.folder / "shop/worker.py").read_text()
    assert desk.told("token", "create", "--name", "ci", "--role", "deployer")["secret"].startswith("svc_")
    assert len(desk.told("token", "list")["tokens"]) == 2
    assert desk.told("token", "revoke", "ci")["changed"]
    for words in (("verify",), ("gc", "--yes"), ("secrets", "rewrap")):
        refused = desk.to_api(*words)
        assert refused.status == 1
        assert f"error: {' '.join(word for word in words if word != '--yes')} works on a store itself" in refused.err
    desk.api.ended(signal.SIGTERM)
    assert "hunter2" not in desk.api.err
    assert desk.token not in desk.api.err
    gone = desk.to_api("history")
    assert gone.status == 7
    assert gone.err == (
        f"error: {desk.api.url} can't be reached: Connection refused\n"
        "hint: is it running there, and is the URL right?\n"
    )


def test_a_role_that_does_not_suffice_is_exit_status_6(desk: Desk):
    desk.told("deploy")
    viewer = desk.told("token", "create", "--name", "eve", "--role", "viewer")["secret"]
    assert desk.to_api("history", SVCCTL_TOKEN=viewer).status == 0
    refused = desk.to_api("promote", "staging", "production", "--yes", "--json", SVCCTL_TOKEN=viewer)
    assert refused.status == 6
    assert refused.json["error"]["code"] == "forbidden"
    assert "'eve'" in refused.json["error"]["message"]


@pytest.mark.parametrize("at", ["answer.printed", "plan.agreed"])
def test_a_command_that_was_killed_is_told_when_it_is_typed_again(desk: Desk, at: str):
    desk.told("deploy")
    killed = desk.to_api("promote", "staging", "production", "--yes", SVCCTL_FAULT=at)
    assert killed.status == -signal.SIGKILL
    again = desk.to_api("promote", "staging", "production", "--yes")
    assert again.status == 0
    assert ("by a command that ended before it could say so" in again.err) == (at == "answer.printed")
    assert [version["number"] for version in desk.told("history", "shop/production")["versions"]] == [1]


def test_history_over_the_api_imports_nothing_that_it_does_not_use(desk: Desk):
    """The budget of start-up, kept by names: times belong in benchmarks."""
    desk.told("deploy")
    code = (
        "import sys, svcctl.cli.main as main, os\n"
        "status = main.run(['history', '--json'], os.environ)\n"
        "sys.stderr.write(' '.join(sys.modules)); sys.exit(status)"
    )
    environ = desk.environ(SVCCTL_BACKEND=desk.api.url, SVCCTL_TOKEN=desk.token)
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environ, cwd=desk.folder
    )
    assert len(json.loads(done.stdout)["versions"]) == 2
    loaded = set(done.stderr.split())
    assert "httpx" in loaded
    unwanted = {
        "litestar", "psycopg", "keyring", "sqlite3", "rich", "git", "cryptography", "tomlkit", "pathspec", "uv",
        "pydantic", "click", "pygments", "asyncio", "uvicorn", "httpx._main",
    }  # fmt: skip
    assert not unwanted & loaded
    assert not {name for name in loaded if name.startswith(("svcctl.bundle", "svcctl.provenance", "svcctl.api"))}

"""A team's day on one store, and what fails in it: `make team-demo`.

PostgreSQL, two replicas of the API and two nodes, all on this machine; Ada, Grace and CI, each with a home and a clone
of their own. Every line after a `$` is really run; the demo stops at the first that does not end as it should.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from playing import Server, Shell, ending_well, say, undisturbed

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from postgres import Server as Postgres  # as the tests start it

STAGING = "staging--shop.localhost"
PRODUCTION = "shop.localhost"


def main() -> None:
    with ending_well(), tempfile.TemporaryDirectory(prefix="svcctl-team-") as folder, ExitStack() as end:
        team = Team(Path(folder), end)
        team.opens()
        team.gets_tokens()
        team.starts_nodes()
        team.releases()
        team.lives_through_failures()
        team.looks_back()


class Team:
    def __init__(self, folder: Path, end: ExitStack) -> None:
        """`end` is when everything that was started ends."""
        self._folder = folder
        self._end = end
        self._nodes: list[Server] = []
        self._ops, self._ada, self._grace, self._ci = map(self._shell, ("Ops", "Ada", "Grace", "CI"))

    def _shell(self, name: str) -> Shell:
        return Shell(self._folder / name.lower(), name, prompt=f"{name.lower()} $")

    # ---- the story

    def opens(self) -> None:
        say("An empty PostgreSQL, from the wheel that the tests use.")
        with undisturbed():
            self._database = Postgres()
            self._end.callback(self._database.stop)
        self._database.execute("CREATE DATABASE svcctl")
        self._store = self._database.url("svcctl")

        say("Two replicas of the API. They share the store, and the key that seals its secrets, which is not in it.")
        self._ops.export("SVCCTL_SECRET_KEY", "$(head -c 32 /dev/urandom | base64)")
        api = f"svcctl api --store {self._store} --port 0"
        self._one = self._end.enter_context(self._ops.start(f"{api} --token-file first.token", log="one.log"))
        self._two = self._end.enter_context(self._ops.start(api, log="two.log"))

    def gets_tokens(self) -> None:
        say("The first token is an admin's. It makes one for Ada, so that the history has her name.")
        self._ops.export("SVCCTL_TOKEN", "$(cat first.token)")
        ada = self._ops.told(f"svcctl --backend {self._one.url} token create --name ada --role admin")

        say("Her services.toml says where the team's store is.")
        self._ada.open_shop(f'backend = "{self._one.url}"')
        self._ada.run("head -n 2 services.toml")
        self._logs_in(self._ada, ada)
        self._ada.run("svcctl env create production")

        say("A token for each who works with it: what they may do, and where.")
        ci = self._ada.told("svcctl token create --name ci --role deployer --env staging --expires 90d")
        grace = self._ada.told("svcctl token create --name grace --role promoter")
        self._runtime = self._ada.told("svcctl token create --name nodes --role runtime")

        say("CI has its token in SVCCTL_TOKEN, Grace keeps hers.")
        for each in (self._ci, self._grace):
            each.clone(self._ada)
        self._ci.export("SVCCTL_TOKEN", ci)
        self._logs_in(self._grace, grace)

    def starts_nodes(self) -> None:
        say("Two nodes follow the API, each a replica, each with a cache of its own.")
        for number, api in enumerate((self._one, self._two), start=1):
            node = self._shell(f"Node-{number}")
            node.export("SVCCTL_TOKEN", self._runtime)
            line = f"svcctl serve --backend {api.url} --port 0 --cache cache"
            self._nodes.append(self._end.enter_context(node.start(line, log="log")))

    def releases(self) -> None:
        say("CI deploys to staging, and both nodes answer.")
        self._ci.run("svcctl deploy -m 'first light'")
        self._asks(STAGING, "Welcome!")

        say("Production is out of its reach. Each refusal is kept.")
        self._ci.run("svcctl vars set LOG_LEVEL=debug --env production", status=(6,))
        self._ci.run("svcctl promote staging production --yes", status=(6,))
        self._ada.run("svcctl audit --refusals")

        say("Grace promotes the tested bytes.")
        self._grace.run("svcctl promote staging production --yes")
        self._asks(PRODUCTION, "Welcome!")

        say("A setting, and a roll back: live on both nodes without a restart.")
        self._greet(self._grace, "Good morning!")
        self._asks(PRODUCTION, "Good morning!")
        self._grace.run("svcctl rollback --yes")
        self._asks(PRODUCTION, "Welcome!")

    def lives_through_failures(self) -> None:
        first, second = self._nodes
        say("kill -9 of the database. Commands can't be done; nodes go on answering.")
        self._database.kill()
        self._grace.run("svcctl status", status=(7,))
        first.says("what was last seen of it is served")
        self._asks(PRODUCTION, "Welcome!")

        say("A node is killed as well, and starts from its cache.")
        first.kill()
        first.again()
        self._asks(PRODUCTION, "Welcome!")

        say("The database is there again: so is everything that was committed, and what comes next is live on both.")
        with undisturbed():
            self._database.start()
        self._greet(self._grace, "Back again!")
        self._asks(PRODUCTION, "Back again!")

        say("A replica of the API is killed. The other is as good; a balancer would choose it without being told.")
        self._one.kill()
        self._grace.run(f"svcctl login {self._two.url} < ../token")
        self._greet(self._grace, "Good evening!", f"--backend {self._two.url} ")
        second.ask(PRODUCTION, token="me", until="Good evening!")
        say("The node that followed the killed one serves what it knew, until that one is back.")
        first.ask(PRODUCTION, token="me", until="Back again!")
        self._one.again()
        first.ask(PRODUCTION, token="me", until="Good evening!")

    def looks_back(self) -> None:
        say("CI's token leaked: from now on it opens nothing.")
        self._ada.run("svcctl token revoke ci")
        self._ci.run("svcctl deploy", status=(6,))

        say("Who did what, and the proof that nothing of it was altered.")
        self._ada.run("svcctl history shop/production")
        self._ada.run("svcctl audit")
        self._ops.run(f"svcctl verify --backend {self._store}")

    # ---- its sentences

    def _logs_in(self, who: Shell, token: str) -> None:
        (who.folder / "../token").write_text(token)
        who.run("svcctl login < ../token")

    def _greet(self, who: Shell, text: str, options: str = "") -> None:
        who.run(f"svcctl {options}vars set 'GREETING={text}' --env production -s shop")

    def _asks(self, host: str, text: str) -> None:
        for node in self._nodes:
            node.ask(host, token="me", until=text)


if __name__ == "__main__":
    main()

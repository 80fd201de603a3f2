"""The main job, as a user would type it, in a temporary git repository: `make demo`.

Every line after a `$` is really run; the demo stops at the first that does not end as it should.
"""

import tempfile
from pathlib import Path

from playing import Shell, ending_well, say


def main() -> None:
    with ending_well(), tempfile.TemporaryDirectory(prefix="svcctl-demo-") as folder:
        shell = Shell(Path(folder))
        shell.open_shop()
        say("A git repository with two services, shop and auth (shop/services.toml).")

        say("Deploy to staging: bundled, stored, version 1 of each service.")
        shell.run("svcctl deploy -m 'first light'")
        say("The tested bytes go to production, which has settings of its own.")
        shell.run("svcctl promote staging production --yes")

        say("A preview of a change, in an environment of its own, in a moment.")
        shell.run("svcctl env clone staging preview --ttl 7d")
        shell.edit("shop/worker.py", "GREETING", "GREETING.upper()")
        shell.quietly("git commit --quiet -am 'Say it louder'")
        shell.run("svcctl deploy --env preview")
        shell.run("svcctl diff staging preview", status=(0, 8))
        shell.run("svcctl promote preview production --yes")

        say("A setting changes at night; in the morning two roll backs undo both.")
        shell.run("svcctl vars set LOG_LEVEL=debug --env production -s shop")
        shell.run("svcctl rollback --yes")
        shell.run("svcctl rollback --yes")

        say("The environments answer at their hostnames; shop calls auth in the same process.")
        with shell.start("svcctl serve --port 0") as server:
            server.ask("shop.localhost")
            server.ask("shop.localhost", token="ada")
            server.ask("preview--shop.localhost", token="ada")
            say("What a command changes is live at once, and no request fails meanwhile.")
            shell.run("svcctl vars set 'GREETING=Good morning!' --env production -s shop")
            server.ask("shop.localhost", token="ada", until="Good morning!")
            shell.run("svcctl rollback --yes")
            server.ask("shop.localhost", token="ada", until="Welcome!")
        say("Any stored version answers without a server.")
        shell.run("svcctl call shop/production@1 / -H 'Authorization: Bearer ada'")
        print()

        say("Who changed what, when.")
        shell.run("svcctl history shop/production")
        shell.run("svcctl verify")


if __name__ == "__main__":
    main()

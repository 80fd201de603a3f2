"""Every command: its name, its one line of help and the panel of `svcctl --help` that it stands in.

The command `env clone` is the function `env_clone` of `svcctl/cli/commands/env_clone.py`. The first line of its
docstring equals the help here (a test checks it), so that `svcctl --help` imports no command.
"""

from keyword import iskeyword
from typing import NamedTuple


class Entry(NamedTuple):
    help: str
    panel: str


def _panel(name: str, helps: dict[str, str]) -> dict[str, Entry]:
    return {command: Entry(help, name) for command, help in helps.items()}


GROUPS = {
    "env": Entry("Environments: create, clone, rename, delete, list, show, protect, prune.", "Environments"),
    "service": Entry("Services: list, delete.", "Environments"),
    "vars": Entry("Vars: set, unset, list, import.", "Settings"),
    "secrets": Entry("Secrets: set, list, unset, import, rewrap.", "Settings"),
    "routes": Entry("Routes: add, remove, list.", "Settings"),
    "kv": Entry("KV namespaces: keys, import, export.", "KV"),
    "kv key": Entry("Keys of a KV namespace: get, put, list, delete.", "KV"),
    "config": Entry("services.toml: show, check.", "Settings"),
    "artifact": Entry("Artifacts: get.", "History"),
    "backend": Entry("Backends: add, use, list, copy.", "Team"),
    "token": Entry("Tokens of the API: create, list, revoke.", "Team"),
}

COMMANDS = {
    **_panel(
        "Deploy",
        {
            "init": "Start a project: write services.toml and a first service.",
            "deploy": "Deploy services to an environment.",
            "promote": "Give an environment the code that another one runs.",
            "rollback": "Take the newest release off an environment.",
            "tag": "Name a version.",
        },
    ),
    **_panel(
        "Run",
        {
            "dev": "Run services from the working tree; edits are live on save.",
            "serve": "Answer requests at the hostnames of every environment.",
            "call": "Send a request through stored versions, without a server.",
            "logs": "Show what services printed and logged, and how requests ended.",
        },
    ),
    **_panel(
        "Environments",
        {
            "status": "Show what runs where, and what is waiting.",
            "env create": "Create an environment.",
            "env clone": "Make a new environment with another one's code, settings and secrets.",
            "env rename": "Rename an environment; its history goes on.",
            "env delete": "Delete an environment.",
            "env list": "List environments.",
            "env show": "Show one environment: hostnames, head, bindings and where they lead.",
            "env protect": "Let code into an environment by promote and roll back alone, or lift that.",
            "env prune": "Delete the environments whose time to live is over.",
            "service list": "List services.",
            "service delete": "Delete a service and all its environments.",
            "graph": "Draw which service calls which.",
        },
    ),
    **_panel(
        "Settings",
        {
            "vars set": "Set vars on top of what services.toml says.",
            "vars unset": "Remove vars that were set from the command line.",
            "vars list": "List an environment's vars and where each comes from.",
            "vars import": "Set vars from a .env or JSON file.",
            "secrets set": "Set a secret: asked for without echo, or read from standard input.",
            "secrets list": "List the names of secrets, and which are missing.",
            "secrets unset": "Remove secrets.",
            "secrets import": "Set secrets from a .env or JSON file.",
            "secrets rewrap": "Seal every secret again with a new master key.",
            "bind": "Bind a name to a service, a KV namespace or a bucket.",
            "unbind": "Remove bindings.",
            "routes add": "Send requests for a host and path to an environment.",
            "routes remove": "Remove routes.",
            "routes list": "List routes.",
            "config show": "Show an environment's effective settings and where each value comes from.",
            "config check": "Check services.toml; list all its problems.",
        },
    ),
    **_panel(
        "KV",
        {
            "kv key get": "Print the value of a key.",
            "kv key put": "Write a key.",
            "kv key list": "List the keys of a namespace.",
            "kv key delete": "Delete a key.",
            "kv import": "Write the entries of a file into a namespace.",
            "kv export": "Print all entries of a namespace, a JSON object a line.",
        },
    ),
    **_panel(
        "History",
        {
            "history": "List versions, newest first.",
            "diff": "Compare two versions, or the working tree with what runs.",
            "show": "Show one version.",
            "audit": "List every change: who, when, what and why.",
            "where": "Find the environments and versions that run or ran a commit or artifact.",
            "artifact get": "Write the exact files of a version into a folder.",
        },
    ),
    **_panel(
        "Store",
        {
            "verify": "Check every record and every stored byte.",
            "gc": "Remove stored bytes that nothing needs.",
            "export": "Write the whole store into one file.",
            "import": "Read a store from the file of an export.",
            "backend copy": "Copy a store, with its history, to another backend.",
        },
    ),
    **_panel(
        "Team",
        {
            "login": "Keep a token for the API of a team.",
            "logout": "Forget the token of an API.",
            "whoami": "Show who you are to the backend, and what you may do.",
            "backend add": "Give the URL of a backend a name.",
            "backend use": "Choose the backend of this checkout.",
            "backend list": "List the backends that have names, and the one in use.",
            "api": "Serve a store to a team over HTTP.",
            "token create": "Make a token for the API; its secret is shown once.",
            "token list": "List the tokens of the API; secrets are not stored.",
            "token revoke": "Take a token back: nothing can be done with it from then on.",
        },
    ),
    **_panel(
        "Other",
        {
            "completion": "Print the completion script of a shell.",
            "version": "Print the version of svcctl.",
        },
    ),
}


def module(command: str) -> str:
    return f"svcctl.cli.commands.{function(command)}"


def function(command: str) -> str:
    """Python keeps some words for itself: `import` is `import_`."""
    name = command.replace(" ", "_")
    return f"{name}_" if iskeyword(name) else name


def children(group: str) -> dict[str, Entry]:
    """What stands directly in a group ("" is svcctl itself), in the order of the help: subgroups among commands."""
    prefix = f"{group} " if group else ""
    found: dict[str, Entry] = {}
    for command, entry in COMMANDS.items():
        if command.startswith(prefix):
            word, space, _ = command.removeprefix(prefix).partition(" ")
            found.setdefault(word, GROUPS[prefix + word] if space else entry)
    return found

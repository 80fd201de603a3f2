"""Broken files, and every line that is said about them."""

# ruff: noqa: E501 - the messages stand here whole

import pytest

from svcctl.config import load_text
from svcctl.errors import ConfigError

# A name, a file, and its problems, each without the `services.toml:` that it starts with.
BROKEN = r"""
### an empty file
>>> 1: project: is missing; it names the project: project = "acme"
>>> 1: services: there is none; add [services.NAME] with its main

### no services
project = "acme"
>>> 1: services: there is none; add [services.NAME] with its main

### an empty services table
project = "acme"
[services]
>>> 2: services: there is none; add [services.NAME] with its main

### no project
[services.shop]
main = "shop/worker.py"
>>> 1: project: is missing; it names the project: project = "acme"

### no main
project = "acme"
[services.shop]
[services.shop.vars]
A = "1"
>>> 2: services.shop.main: is missing; it names the file that starts the service: main = "shop/worker.py"

### an unclosed string
project = "acme"
[services.shop]
main = "shop/worker.py"
root = "shop
>>> 4:13: the line ends inside a string; it needs a closing quote

### a value without quotes
project = "acme"
[services.shop]
main = "shop/worker.py"
root = shop
>>> 4:8: this is no value; strings need quotes

### an unclosed array
project = "acme"
[services.shop]
main = "shop/worker.py"
secrets = ["A"
>>> 4:15: unclosed array

### no equals sign
project = "acme"
[services.shop]
main = "shop/worker.py"
root "shop"
>>> 4:6: expected '=' after a key in a key/value pair

### neither key nor table
project = "acme"
[services.shop]
main = "shop/worker.py"
= "shop"
>>> 4:1: this is neither `key = value` nor a [table]

### a key twice
project = "acme"
[services.shop]
main = "shop/worker.py"
root = "."
root = "shop"
>>> 5:14: this key has a value already

### a table twice
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop]
root = "."
>>> 4:15: [services.shop] stands here a second time

### a bad escape
project = "acme"
[services.shop]
main = "shop/worker.py"
root = "C:\Users"
>>> 4:13: \ starts an escape in double quotes; single quotes take it as it is

### unknown keys, near and far
project = "acme"
[services.shop]
main = "shop/worker.py"
mian = "x.py"
replicas = 3
>>> 4: services.shop.mian: unknown key; did you mean main?
>>> 5: services.shop.replicas: unknown key; there is main, root, with, include, exclude, python, vars, secrets, bindings, optional, environments

### unknown key at the top
projekt = "acme"
project = "acme"
[services.shop]
main = "shop/worker.py"
>>> 1: projekt: unknown key; did you mean project?

### an environment's key in the service
project = "acme"
[services.shop]
main = "shop/worker.py"
routes = ["shop.example.com/*"]
>>> 4: services.shop.routes: unknown key here; it belongs in an environment's table, such as [services.shop.environments.production]

### a service's key in an environment
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.environments.staging]
main = "other.py"
>>> 5: services.shop.environments.staging.main: unknown key here; it belongs in a service's table, such as [services.shop]

### a project's key below a table
project = "acme"
[services.shop]
main = "shop/worker.py"
default_environment = "staging"
>>> 4: services.shop.default_environment: unknown key here; it belongs at the top of the file, before the first [table]

### a service's key at the top
vars = { A = "1" }
project = "acme"
[services.shop]
main = "shop/worker.py"
>>> 1: vars: unknown key here; it belongs in a service's table, such as [services.shop]

### unknown key in limits
project = "acme"
[services.shop]
main = "shop/worker.py"
[limits]
file_sise = 3
>>> 5: limits.file_sise: unknown key; did you mean file_size?

### wrong types
project = true
domain = 3
default_environment = ["staging"]
backend = 2026-01-01
services = "shop"
>>> 1: project: must be a string, not the boolean true
>>> 2: domain: must be a string, not the number 3
>>> 3: default_environment: must be a string, not an array
>>> 4: backend: must be a string, not the date or time 2026-01-01
>>> 5: services: must be a table, not a string

### wrong types in a service
project = "acme"
[services.shop]
main = "shop/worker.py"
root = 1.5
with = "common"
exclude = [1, "x"]
vars = ["A"]
secrets = { A = 1 }
bindings = true
environments = []
>>> 4: services.shop.root: must be a string, not the number 1.5
>>> 5: services.shop.with: must be an array of strings, not a string
>>> 6: services.shop.exclude[0]: must be a string, not the number 1
>>> 7: services.shop.vars: must be a table, not an array
>>> 8: services.shop.secrets: must be an array of strings, not a table
>>> 9: services.shop.bindings: must be a table, not the boolean true
>>> 10: services.shop.environments: must be a table, not an array

### wrong types in an environment
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.environments]
staging = "x"
production = { protected = "yes", routes = "a.com/*", unset = [false] }
>>> 5: services.shop.environments.staging: must be a table, not a string
>>> 6: services.shop.environments.production.protected: must be true or false, not a string
>>> 6: services.shop.environments.production.routes: must be an array of strings, not a string
>>> 6: services.shop.environments.production.unset[0]: must be a string, not the boolean false

### a service that is no table
project = "acme"
[services]
shop = "shop/worker.py"
>>> 3: services.shop: must be a table, not a string

### bad names
project = "Acme"
[services.Shop]
main = "shop/worker.py"
[services.a--b]
main = "b.py"
[services.b.environments."staging "]
[services.b]
main="b.py"
>>> 1: project: Acme must start with a letter a-z and hold only a-z, 0-9 and -
>>> 2: services.Shop: its name must start with a letter a-z and hold only a-z, 0-9 and -
>>> 4: services.a--b: its name must not hold -- or end in -
>>> 6: services.b.environments."staging ": its name must start with a letter a-z and hold only a-z, 0-9 and -

### a long name
project = "acme"
[services.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]
main = "w.py"
>>> 2: services.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: its name is 41 characters long; 40 is the limit

### a name that needs quotes
project = "acme"
[services."\u001b[31m"]
main = "w.py"
>>> 2: services."\u001b[31m": its name must start with a letter a-z and hold only a-z, 0-9 and -

### bad variable names
project = "acme"
[services.shop]
main = "shop/worker.py"
vars = { 1ST = "a", "A B" = "b", __X = "c" }
secrets = ["API-KEY"]
[services.shop.bindings]
A-B = { kv = "x" }
>>> 4: services.shop.vars.1ST: must start with a letter or _ and hold only letters, digits and _
>>> 4: services.shop.vars."A B": must start with a letter or _ and hold only letters, digits and _
>>> 4: services.shop.vars.__X: must not start with __
>>> 5: services.shop.secrets[0]: API-KEY must start with a letter or _ and hold only letters, digits and _
>>> 7: services.shop.bindings.A-B: must start with a letter or _ and hold only letters, digits and _

### empty strings
project = ""
[services.shop]
main = ""
secrets = [""]
>>> 1: project: must not be empty
>>> 3: services.shop.main: must not be empty
>>> 4: services.shop.secrets[0]: must not be empty

### control characters
project = "acme"
[services.shop]
main = "shop/worker.py"
root = "a\u0007b"
>>> 4: services.shop.root: must not hold control characters

### one name twice in a table
project = "acme"
[services.shop]
main = "shop/worker.py"
vars = { KEY = "x" }
secrets = ["KEY"]
bindings.KEY.kv = "keys"
>>> 5: services.shop.secrets[0]: KEY is a var of this table too; a name means one thing
>>> 6: services.shop.bindings.KEY: KEY is a var of this table too; a name means one thing

### a name listed twice
project = "acme"
[services.shop]
main = "shop/worker.py"
secrets = ["A", "B", "A"]
>>> 4: services.shop.secrets[2]: A stands here twice

### a secret over an inherited var
project = "acme"
[services.shop]
main = "shop/worker.py"
vars = { KEY = "x" }
[services.shop.environments.staging]
secrets = ["KEY"]
>>> 6: services.shop.environments.staging.secrets[0]: KEY is a var of the service; unset = ["KEY"] takes that away here (services.toml:4)

### bindings of none and of two
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.bindings]
A = {}
B = { kv = "x", bucket = "y" }
C = { environment = "staging" }
>>> 5: services.shop.bindings.A: needs one of service, kv, bucket and version_metadata, not none
>>> 6: services.shop.bindings.B: needs one of service, kv, bucket and version_metadata, not kv and bucket
>>> 7: services.shop.bindings.C: needs one of service, kv, bucket and version_metadata, not none

### bindings whose keys do not fit together
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.bindings]
A = { kv = "carts", entrypoint = "Admin" }
B = { service = "auth", entrypoint = "9to5" }
C = { version_metadata = false }
D = { version_metadata = true, environment = "production" }
E = { version_metadata = "yes" }
F = { version_metadata = true, kv = "carts" }
>>> 5: services.shop.bindings.A.entrypoint: stands beside service alone: it names a class of the service's main file
>>> 6: services.shop.bindings.B.entrypoint: 9to5 must start with a letter or _ and hold only letters, digits and _
>>> 7: services.shop.bindings.C.version_metadata: must be true; leave the binding out instead
>>> 8: services.shop.bindings.D.environment: has no meaning beside version_metadata: a handler is its own version
>>> 9: services.shop.bindings.E.version_metadata: must be true or false, not a string
>>> 10: services.shop.bindings.F: needs one of service, kv, bucket and version_metadata, not kv and version_metadata

### binding as a string
project = "acme"
[services.shop]
main = "shop/worker.py"
bindings = { AUTH = "auth" }
>>> 4: services.shop.bindings.AUTH: must be a table such as { kv = "carts" }, not a string

### unknown key in a binding
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.bindings]
A = { servise = "auth" }
>>> 5: services.shop.bindings.A.servise: unknown key; did you mean service?

### bad names in a binding
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.bindings]
A = { kv = "My Cache", environment = "Prod" }
>>> 5: services.shop.bindings.A.kv: My Cache must start with a letter a-z and hold only a-z, 0-9 and -
>>> 5: services.shop.bindings.A.environment: Prod must start with a letter a-z and hold only a-z, 0-9 and -

### a slip in a binding
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.bindings]
AUTH = { service = "auht" }
[services.auth]
main = "auth.py"
>>> 5: services.shop.bindings.AUTH.service: there is no service auht here; did you mean auth? (To bind another project's, say its environment)

### a slip in an environment's binding
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.auth]
main = "auth.py"
[services.shop.environments.staging.bindings]
AUTH.service = "atuh"
>>> 7: services.shop.environments.staging.bindings.AUTH.service: there is no service atuh here; did you mean auth? (To bind another project's, say its environment)

### optional that is nothing
project = "acme"
[services.shop]
main = "shop/worker.py"
vars = { BANNER = "x" }
optional = ["BANER", "X"]
>>> 5: services.shop.optional[0]: the service has no var, secret or binding BANER; did you mean BANNER?
>>> 5: services.shop.optional[1]: the service has no var, secret or binding X

### unset that is nothing
project = "acme"
[services.shop]
main = "shop/worker.py"
vars = { BANNER = "x" }
[services.shop.environments.staging]
unset = ["BANER", "BANNER"]
vars = { BANNER = "y" }
>>> 6: services.shop.environments.staging.unset[0]: the service has no var, secret or binding BANER; did you mean BANNER?
>>> 6: services.shop.environments.staging.unset[1]: BANNER is set here too; leave it out of unset

### bad routes
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.environments.production]
routes = ["https://a.com/*", "a.com", "A.com/*", "a.com/*/b", "a.com/x?y"]
>>> 5: services.shop.environments.production.routes[0]: https://a.com/*: its host must be a lower-case host name such as shop.example.com (international names in their xn-- form)
>>> 5: services.shop.environments.production.routes[1]: a.com: needs a path; a.com/* means every path
>>> 5: services.shop.environments.production.routes[2]: A.com/*: its host must be a lower-case host name such as shop.example.com (international names in their xn-- form)
>>> 5: services.shop.environments.production.routes[3]: a.com/*/b: may have a * only at its end
>>> 5: services.shop.environments.production.routes[4]: a.com/x?y: its path may hold only visible ASCII without ? and #

### routes twice in one and in two services
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.environments.production]
routes = ["a.com/*", "a.com/*"]
[services.auth]
main = "auth.py"
[services.auth.environments.production]
routes = ["a.com/*"]
>>> 5: services.shop.environments.production.routes[1]: a.com/* stands here twice
>>> 9: services.auth.environments.production.routes[0]: a.com/* leads to another place already (services.toml:5)

### a route under the domain
project = "acme"
domain = "example.com"
[services.shop]
main = "s.py"
[services.shop.environments.production]
routes = ["shop.example.com/*", "*.example.com/*", "notexample.com/*"]
>>> 6: services.shop.environments.production.routes[0]: shop.example.com/* lies under example.com, where hostnames are generated
>>> 6: services.shop.environments.production.routes[1]: *.example.com/* lies under example.com, where hostnames are generated

### a bad domain
domain = "Example.com:80"
project = "acme"
[services.shop]
main = "shop/worker.py"
>>> 1: domain: Example.com:80 must be a lower-case host name such as shop.example.com (international names in their xn-- form)

### a protected default environment
default_environment = "production"
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.environments.production]
protected = true
>>> 1: default_environment: production is protected in shop, so `svcctl deploy` could never go there (services.toml:6)

### a bad default environment
default_environment = "the stage"
project = "acme"
[services.shop]
main = "shop/worker.py"
>>> 1: default_environment: the stage must start with a letter a-z and hold only a-z, 0-9 and -

### backends
backend = "ftp://example.com"
project = "acme"
[services.shop]
main = "shop/worker.py"
>>> 1: backend: must be an http:// or https:// URL, or a folder

### a password in the backend
backend = "https://me:secret@example.com"
project = "acme"
[services.shop]
main = "shop/worker.py"
>>> 1: backend: must not hold a user name or password: the file is read by everyone who has the code

### main outside the project
project = "acme"
[services.shop]
main = "../worker.py"
>>> 3: services.shop.main: ../worker.py leaves the folder of services.toml

### an absolute main
project = "acme"
[services.shop]
main = "/srv/worker.py"
>>> 3: services.shop.main: /srv/worker.py must be relative to the folder of services.toml

### a windows main
project = "acme"
[services.shop]
main = 'shop\worker.py'
>>> 3: services.shop.main: shop\worker.py must have / between folders, not \

### a drive
project = "acme"
[services.shop]
main = 'C:\shop\worker.py'
>>> 3: services.shop.main: C:\shop\worker.py must be relative to the folder of services.toml

### main that is no python file
project = "acme"
[services.shop]
main = "shop/worker.js"
>>> 3: services.shop.main: shop/worker.js is no Python file such as worker.py, or worker.py:app to name an object

### main with a bad object
project = "acme"
[services.shop]
main = "shop/worker.py:my app"
>>> 3: services.shop.main: shop/worker.py:my app is no Python file such as worker.py, or worker.py:app to name an object

### main outside root
project = "acme"
[services.shop]
main = "shop/worker.py"
root = "lib"
>>> 3: services.shop.main: shop/worker.py is not inside root, lib

### root outside the project
project = "acme"
[services.shop]
main = "shop/worker.py"
root = "shop/../.."
>>> 4: services.shop.root: shop/../.. leaves the folder of services.toml

### with
project = "acme"
[services.shop]
main = "shop/worker.py"
with = ["../common", "/usr/lib", ".", "common/"]
>>> 4: services.shop.with[0]: ../common leaves the folder of services.toml
>>> 4: services.shop.with[1]: /usr/lib must be relative to the folder of services.toml
>>> 4: services.shop.with[2]: must name a folder below the project's: it is imported by its name

### dates and numbers in vars
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.vars]
DAY = 2026-11-23
AT = 2026-11-23T10:00:00Z
NOON = 12:00:00
N = nan
I = -inf
BIG = 9007199254740993
OK = 9007199254740992
>>> 5: services.shop.vars.DAY: 2026-11-23 is a date or time; write it as a string, in quotes
>>> 6: services.shop.vars.AT: 2026-11-23 10:00:00+00:00 is a date or time; write it as a string, in quotes
>>> 7: services.shop.vars.NOON: 12:00:00 is a date or time; write it as a string, in quotes
>>> 8: services.shop.vars.N: nan has no JSON form; leave it out, or write it as a string
>>> 9: services.shop.vars.I: -inf has no JSON form; leave it out, or write it as a string
>>> 10: services.shop.vars.BIG: the number 9007199254740993 is beyond 2^53, where JSON loses digits; write it as a string

### a date deep inside a var
project = "acme"
[services.shop]
main = "shop/worker.py"
[services.shop.vars]
A = [1, { "b c" = [[2026-11-23]] }]
[[services.shop.vars.B]]
[[services.shop.vars.B]]
x = nan
>>> 5: services.shop.vars.A[1]."b c"[0][0]: 2026-11-23 is a date or time; write it as a string, in quotes
>>> 8: services.shop.vars.B[1].x: nan has no JSON form; leave it out, or write it as a string

### a large var
project = "acme"
[services.shop]
main = "shop/worker.py"
vars = { A = "12345678" }
[limits]
var_size = 9
>>> 4: services.shop.vars.A: holds 10 bytes as JSON; 9 is the limit (limits.var_size)

### limits
project = "acme"
[services.shop]
main = "shop/worker.py"
[limits]
file_count = 0
file_size = "1 GB"
artifact_size = -1
>>> 5: limits.file_count: must be more than 0 and less than 2^53
>>> 6: limits.file_size: must be a whole number, not a string
>>> 7: limits.artifact_size: must be more than 0 and less than 2^53

### python without quotes
project = "acme"
[services.shop]
main = "shop/worker.py"
python = 3.10
>>> 4: services.shop.python: must be a string, in quotes: python = "3.11"

### python in another form
python = "3.11.2"
project = "acme"
[services.shop]
main = "shop/worker.py"
python = ">=3.11"
>>> 1: python: 3.11.2 is no Python version of the form 3.11
>>> 5: services.shop.python: >=3.11 is no Python version of the form 3.11

### many at once, in the order of the file
projct = "acme"
default_environment = "staging"

[services.shop]
main = "../shop.py"
secrets = ["KEY", "KEY"]

[services.shop.bindings]
AUTH = { service = "auth", env = "x" }

[services.shop.environments.staging]
protected = true
vars = { WHEN = 2026-01-01 }
>>> 1: projct: unknown key; did you mean project?
>>> 2: default_environment: staging is protected in shop, so `svcctl deploy` could never go there (services.toml:12)
>>> 5: services.shop.main: ../shop.py leaves the folder of services.toml
>>> 6: services.shop.secrets[1]: KEY stands here twice
>>> 9: services.shop.bindings.AUTH.env: unknown key; did you mean environment?
>>> 13: services.shop.environments.staging.vars.WHEN: 2026-01-01 is a date or time; write it as a string, in quotes
"""

SHOP = """\
project = "acme"
[services.shop]
main = "shop/worker.py"
"""

HOSTILE = {
    "arrays in arrays": ("A = " + "[" * 70 + "]" * 70, ": arrays and tables stand in each other more than 64 deep"),
    "beyond recursion": (
        "A = " + "[" * 90_000 + "]" * 90_000,
        ": arrays and tables stand in each other more than 64 deep",
    ),
    "a key of many parts": (".".join("a" * 100_000) + " = 1", ":4:1: a key of more than 100 parts"),
    "an endless integer": ("A = 1" + "0" * 90_000, ": holds an integer of thousands of digits"),
    "an endless hex": (
        "vars.A = 0x" + "f" * 90_000,
        ":4: services.shop.vars.A: a huge number is beyond 2^53, where JSON loses digits; write it as a string",
    ),
    "a name of a megabyte": (
        f"[services.{'a' * 900_000}]\nmain = 'a.py'",
        f':4: services."{"a" * 100}…": its name is 900000 characters long; 40 is the limit',
    ),
    "a pattern of a megabyte": (
        f"exclude = ['{'a' * 900_000}']",
        ":4: services.shop.exclude[0]: is 900,000 characters long; 1,024 is the limit",
    ),
}


def cases():
    for case in BROKEN.strip().removeprefix("### ").split("\n\n### "):
        name, *lines = case.splitlines()
        text = "".join(f"{line}\n" for line in lines if not line.startswith(">>> "))
        problems = [f"services.toml:{line[4:]}" for line in lines if line.startswith(">>> ")]
        yield pytest.param(text, problems, id=name)


def said(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_text(text)
    assert raised.value.exit_status == 2
    return list(raised.value.problems)


@pytest.mark.parametrize(("text", "problems"), list(cases()))
def test_a_broken_file_is_told_all_its_problems_in_its_own_order(text, problems):
    assert said(text) == problems


def test_of_very_many_problems_the_first_are_told():
    with pytest.raises(ConfigError, match=r"k199: unknown key") as raised:
        load_text("".join(f"k{number} = 1\n" for number in range(50_000)))
    assert len(raised.value.problems) == 200
    assert raised.value.hint == "there are more: these are the first"


@pytest.mark.parametrize(("line", "problem"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_like_any_other(line, problem):
    assert said(f"{SHOP}{line}\n") == [f"services.toml{problem}"]

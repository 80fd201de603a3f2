"""Rules for names, hostnames and routes. Each `check_*` returns what is wrong in words, or None."""

import difflib
import hashlib
import re
from collections.abc import Iterable

PRODUCTION = "production"

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_NUMBER_LIKE = re.compile(r"c?[0-9]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

NAME_LENGTH = 40
VARIABLE_LENGTH = 100
TAG_LENGTH = 100
_LABEL_LENGTH = 63
_HOST_LENGTH = 253


def check_name(name: str) -> str | None:
    """Services, environments, projects and the labels of resources."""
    if len(name) > NAME_LENGTH:
        return f"is {len(name)} characters long; {NAME_LENGTH} is the limit"
    if not _NAME.fullmatch(name):
        return "must start with a letter a-z and hold only a-z, 0-9 and -"
    if "--" in name or name.endswith("-"):
        return "must not hold -- or end in -"
    return None


def check_variable(name: str) -> str | None:
    """Names in a handler's `env`: vars, secrets, bindings."""
    if len(name) > VARIABLE_LENGTH:
        return f"is {len(name)} characters long; {VARIABLE_LENGTH} is the limit"
    if not _VARIABLE.fullmatch(name):
        return "must start with a letter or _ and hold only letters, digits and _"
    if name.startswith("__"):
        return "must not start with __"
    return None


def check_tag(name: str) -> str | None:
    if len(name) > TAG_LENGTH:
        return f"is {len(name)} characters long; {TAG_LENGTH} is the limit"
    if not _TAG.fullmatch(name):
        return "must start with a letter or digit and hold only letters, digits and . _ + -"
    if _NUMBER_LIKE.fullmatch(name):
        return "would read as a version (12) or a change (c12)"
    return None


def check_host(host: str) -> str | None:
    """A domain or the host of a route, in its one normal form: lower case, ASCII (punycode), no trailing dot."""
    if not host or len(host) > _HOST_LENGTH:
        return f"must have 1 to {_HOST_LENGTH} characters"
    for label in host.split("."):
        if len(label) > _LABEL_LENGTH or not _LABEL.fullmatch(label):
            return "must be a lower-case host name such as shop.example.com (international names in their xn-- form)"
    return None


def check_route(pattern: str) -> str | None:
    """`host/path*`: a host, which may start with `*.`, and a path that may end in `*`."""
    host, slash, path = pattern.partition("/")
    if wrong := check_host(host.removeprefix("*.")):
        return f"its host {wrong}"
    if not slash:
        return f"needs a path; {pattern}/* means every path"
    if "*" in path[:-1]:
        return "may have a * only at its end"
    if any(not "!" <= c <= "~" or c in "?#" for c in path):
        return "its path may hold only visible ASCII without ? and #"
    return None


def route_host(pattern: str) -> str:
    return pattern.partition("/")[0]


def under_domain(host: str, domain: str) -> bool:
    host = host.removeprefix("*.")
    return host == domain or host.endswith("." + domain)


def hosts_meet(one: str, other: str) -> bool:
    """Whether the hosts of two routes have a name in common."""
    return one == other or any(
        each.startswith("*.") and host.endswith(each[1:]) for each, host in ((one, other), (other, one))
    )


def hostname(service: str, environment: str, domain: str) -> str:
    """`shop.localhost` for production, `staging--shop.localhost` else. A label too long for DNS is cut and closed with
    8 hex digits of the whole label's SHA-256, so two long names never share a hostname."""
    label = service if environment == PRODUCTION else f"{environment}--{service}"
    if len(label) > _LABEL_LENGTH:
        label = f"{label[:54]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return f"{label}.{domain}"


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be: one that it begins, else a similar one."""
    known = list(known)
    begun = [each for each in known if len(name) > 1 and each.startswith(name)]
    found = begun if len(begun) == 1 else difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint for an unknown name: its near name, or what there is."""
    known = sorted(known)
    if guess := near(name, known):
        return f"did you mean {guess}?"
    if known:
        shown = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
        return f"there is {shown}"
    return None

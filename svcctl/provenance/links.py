"""Addresses of remotes: fit to be recorded, and as links to the commits between two versions."""

import re

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?(?P<rest>[^?#@]*)(?:[?#].*)?", re.IGNORECASE)
_SCP = re.compile(r"(?:(?P<user>[^@/:]*)@)?(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<path>[^:@][^@]*)")
_FOLDER = re.compile(r"(?:/|\.\.?/)[^?#]*")
_HOSTED = re.compile(r"(?:https?|ssh|git(?:\+ssh)?)://(?:git@)?(?P<host>[^/:]+)(?::\d+)?/(?P<path>.+)", re.IGNORECASE)


def public_remote(url: str) -> str | None:
    """Without user, password, query and fragment; the user `git` of ssh forms stays, being no secret. None for what is
    no plain address, such as git's `ext::COMMAND`."""
    if not url.isprintable():
        return None
    if found := _URL.fullmatch(url):
        scheme = found["scheme"].lower()
        user = "git@" if found["user"] == "git" and scheme not in ("http", "https") else ""
        return f"{scheme}://{user}{found['rest']}"
    if _FOLDER.fullmatch(url):
        return url
    if found := _SCP.fullmatch(url):
        user = "git@" if found["user"] == "git" else ""
        return f"{user}{found['host']}:{found['path'].partition('?')[0].partition('#')[0]}"
    return None


def compare_link(remote: str | None, old: str, new: str) -> str | None:
    """Where a hosting site shows the commits between two; None for sites it does not know."""
    place = _hosted(remote or "")
    if place is None:
        return None
    host, path = place
    if host == "bitbucket.org":
        return f"https://{host}/{path}/branches/compare/{new}%0D{old}"
    if "gitlab" in host:
        return f"https://{host}/{path}/-/compare/{old}...{new}"
    if host == "codeberg.org" or any(site in host.split(".")[0] for site in ("github", "gitea", "forgejo")):
        return f"https://{host}/{path}/compare/{old}...{new}"
    return None


def _hosted(remote: str) -> tuple[str, str] | None:
    """Host and `owner/repository`."""
    address = public_remote(remote) or ""
    scp = _SCP.fullmatch(address)
    if scp and "://" not in address:
        host, path = scp["host"], scp["path"]
    elif url := _HOSTED.fullmatch(address):
        host, path = url["host"], url["path"]
    else:
        return None
    path = path.strip("/").removesuffix(".git")
    return (host.lower(), path) if re.fullmatch(r"[\w.~/-]+", path) else None

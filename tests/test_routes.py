"""Which environment answers. The table of docs/data-plane.md is true, and a worker's part of the routes says the same
of its own requests as all of them do."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl import names
from svcctl.dataplane.gate import BadRequest, parse
from svcctl.dataplane.routes import Routes

PAGE = (Path(__file__).parent.parent / "docs" / "data-plane.md").read_text().split("## Which environment answers")[1]
ROW = re.compile(r"^\| `([^`]+)` \| ([a-z-]+) \|", re.MULTILINE)
ENTRIES = ROW.findall(PAGE.split("| Request |")[0])
REQUESTS = ROW.findall(PAGE.split("| Request |")[1])


@pytest.mark.parametrize(("request_", "answer"), REQUESTS)
def test_the_page_says_who_answers(request_, answer):
    host, _, path = request_.partition("/")
    data = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    if answer == "refused":
        with pytest.raises(BadRequest):
            parse(data)
        return
    head = parse(data)
    assert head is not None
    assert (Routes(ENTRIES).find(head.host, head.path) or "nobody") == answer


def test_the_page_s_patterns_are_patterns():
    for entry, _ in ENTRIES:
        assert not (names.check_route(entry) if "/" in entry else names.check_host(entry))
    assert {answer for _, answer in REQUESTS} >= {key for _, key in ENTRIES}
    assert names.check_route("*example.com/*")
    assert names.check_route("shop.example.com")


def test_without_entries_nobody_answers():
    assert Routes(()).find("shop.localhost", b"/") is None


def test_a_hostname_is_stronger_than_any_route():
    routes = Routes([("shop.localhost/*", "other"), ("shop.localhost", "shop"), ("*.localhost/*", "other")])
    assert routes.find("shop.localhost", b"/x") == "shop"
    assert routes.find("auth.localhost", b"/x") is None


def test_the_whole_server_is_its_root():
    routes = Routes([("a.test/*", "a"), ("b.test/", "b"), ("c.test/x", "c"), ("*.d.test/*", "d"), ("e.test", "e")])
    found = [routes.find(f"{host}.test", b"*") for host in ("a", "b", "c", "x.d", "e")]
    assert found == ["a", "b", None, "d", "e"]


def test_a_wildcard_takes_names_and_no_addresses():
    routes = Routes([("*.0.0.1/*", "a"), ("127.0.0.2/*", "b")])
    assert routes.find("127.0.0.1", b"/") is None
    assert routes.find("127.0.0.2", b"/") == "b"
    assert routes.find("[::1]", b"/") is None


def test_a_pattern_with_encoded_characters_takes_them_as_written():
    routes = Routes([("a.test/caf%C3%A9*", "cafe"), ("a.test/*", "rest")])
    assert routes.find("a.test", b"/caf%C3%A9/menu") == "cafe"
    assert routes.find("a.test", b"/caf%c3%a9") is None
    assert routes.find("a.test", b"/tea") == "rest"


def test_a_route_for_dot_files_takes_nothing_else():
    routes = Routes([("a.test/.*", "dots"), ("a.test/*", "rest")])
    assert routes.find("a.test", b"/.env") == "dots"
    assert routes.find("a.test", b"/x/y") == "rest"
    assert routes.find("a.test", b"/%2eenv") is None


def test_a_path_that_reads_otherwise_is_harmless_where_all_is_one_s():
    routes = Routes([("a.test/*", "a"), ("b.test/*", "b"), ("b.test/x*", "b")])
    for path in (b"/%61", b"//x", b"/y/..%2Fx", b"/a\\b"):
        assert routes.find("a.test", path) == "a"
        assert routes.find("b.test", path) == "b"


def test_what_is_around_an_environment():
    routes = Routes(
        [
            ("shop.localhost", "shop"),
            ("auth.localhost", "auth"),
            ("shop.example.com/*", "shop"),
            ("shop.example.com/admin*", "admin"),
            ("*.example.com/*", "tenants"),
            ("*.com/*", "com"),
            ("www.example.com/*", "www"),
            ("*.example.org/*", "org"),
        ]
    )
    assert {key for _, key in routes.around("shop").entries} == {"shop", "admin", "tenants", "com"}
    assert routes.around("auth").entries == (("auth.localhost", "auth"),)
    assert {key for _, key in routes.around("tenants").entries} == {"shop", "admin", "tenants", "com", "www"}
    assert routes.around("nobody").entries == ()


# ---- properties

labels = st.sampled_from(["a", "b", "xn--c"])
domains = st.sampled_from(["test", "a.test", "b.a.test", "org"])
hosts = st.lists(labels, max_size=2).flatmap(lambda some: domains.map(lambda domain: ".".join([*some, domain])))
segments = st.sampled_from(["", "x", "y", "xy", ".", "..", "%78", "%2F", "%2e%2e", ".x", "\\"])
paths = st.lists(segments, max_size=4).map(lambda some: "/" + "/".join(some))
routes_ = st.tuples(st.sampled_from(["", "*."]), hosts, paths, st.sampled_from(["", "*"])).map("".join)
entries = st.lists(
    st.tuples(routes_ | st.tuples(labels, domains).map(".".join), st.sampled_from("klmn")),
    max_size=12,
    unique_by=lambda e: e[0],
)
requests = st.lists(st.tuples(hosts, paths.map(str.encode)), min_size=1, max_size=8)


def matches(entry: str, host: str, path: str) -> tuple[bool, ...] | None:
    """How specific, by the rules of the page."""
    pattern, _, rest = entry.partition("/")
    rest = "/" + rest
    if pattern.startswith("*."):
        if not host.endswith(pattern[1:]):
            return None
    elif host != pattern:
        return None
    if not (path.startswith(rest[:-1]) if rest.endswith("*") else path == rest):
        return None
    return (not pattern.startswith("*."), len(pattern), len(rest.removesuffix("*")), not rest.endswith("*"))


@given(entries, requests)
def test_the_most_specific_entry_answers_or_nobody(entries, requests):
    routes = Routes(entries)
    hostnames = {entry: key for entry, key in entries if "/" not in entry}
    for host, path in requests:
        found = routes.find(host, path)
        if host in hostnames:
            assert found == hostnames[host]
            continue
        under = max((len(d) for d in {h.partition(".")[2] for h in hostnames} if host.endswith("." + d)), default=0)
        candidates = [
            (rank, key)
            for entry, key in entries
            if "/" in entry and (rank := matches(entry, host, path.decode())) and (rank[0] or rank[1] - 2 > under)
        ]
        best = max(candidates)[1] if candidates else None
        if found != best:
            assert found is None
            assert re.search(rb"[%\\]|//|/\.", path + "".join(entry for entry, _ in entries).encode())


@given(entries, requests)
def test_a_worker_s_part_says_the_same_of_its_own(entries, requests):
    routes = Routes(entries)
    for key in "klmn":
        part = routes.around(key)
        for host, path in requests:
            assert (part.find(host, path) == key) == (routes.find(host, path) == key)


@given(entries, hosts, paths)
def test_no_spelling_dodges_a_route(entries, host, path):
    """Where a path is answered, each way to read it is answered by the same."""
    plain = re.sub(r"/+", "/", path.replace("%78", "x").replace("%2e", ".").replace("%2F", "/").replace("\\", "/"))
    if not re.search(r"/\.\.?(/|$)", plain):
        routes = Routes([(entry, key) for entry, key in entries if not re.search(r"[%\\]|//|/\.", entry)])
        found = routes.find(host, path.encode())
        assert found in {None, routes.find(host, plain.encode())}

"""`workers.Headers`, and URLs in their one form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl.runtime.workers import Headers
from svcctl.runtime.workers.urls import absolute, joined


def test_names_have_no_case_and_values_of_one_name_are_joined():
    headers = Headers([("Accept-Encoding", "deflate"), ("accept-encoding", "gzip"), ("X-A", " 1 ")])
    assert headers["ACCEPT-encoding"] == headers.get("Accept-Encoding") == "deflate, gzip"
    assert headers.get_all("accept-encoding") == ["deflate, gzip"]
    assert headers.items() == [("accept-encoding", "deflate, gzip"), ("x-a", "1")]
    assert list(headers) == headers.keys() == ["accept-encoding", "x-a"]
    assert dict(headers) == {"accept-encoding": "deflate, gzip", "x-a": "1"}
    assert "X-a" in headers
    assert headers.has("x-A")
    assert len(headers) == 2


def test_what_is_missing_is_none():
    headers = Headers()
    assert headers["x"] is headers.get("x") is headers.get_all("x") is None
    assert headers.get("x", "y") == "y"
    assert headers.getAll("x") == headers.getSetCookie() == []
    assert "x" not in headers
    assert headers


def test_set_cookie_is_never_joined():
    headers = Headers({"X": "1"})
    headers.append("Set-Cookie", "a=b, c=d")
    headers.append("set-cookie", "e=f")
    assert headers.getSetCookie() == headers.get_set_cookie() == ["a=b, c=d", "e=f"]
    assert headers.get_all("Set-Cookie") == ["a=b, c=d", "e=f"]
    assert headers.items() == [("x", "1"), ("set-cookie", "a=b, c=d"), ("set-cookie", "e=f")]
    assert headers.raw[1:] == [(b"set-cookie", b"a=b, c=d"), (b"set-cookie", b"e=f")]


def test_cookies_are_joined_as_cookies_are():
    assert Headers([("cookie", "a=1"), ("cookie", "b=2")])["cookie"] == "a=1; b=2"


def test_set_replaces_in_place_and_delete_takes_all():
    headers = Headers([("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")])
    headers.set("A", "5")
    assert headers.items() == [("a", "5"), ("b", "2"), ("c", "4")]
    headers["d"] = 6
    headers.delete("b")
    del headers["nothing"]
    assert headers.items() == [("a", "5"), ("c", "4"), ("d", "6")]


@pytest.mark.parametrize("init", [{"a": "1"}, [("a", "1")], (["a", "1"],), Headers({"a": "1"}), {"a": 1}.items()])
def test_headers_are_made_from(init: object):
    made = Headers(init)
    assert made == Headers({"A": "1"})
    made.set("a", "2")
    assert Headers(init) == Headers({"A": "1"})


@pytest.mark.parametrize("value", ["a\r\nx: 1", "a\nb", "a\rb", "a\0b", "\u20ac", None])
def test_a_value_can_not_leave_its_line(value: object):
    for change in (
        lambda: Headers({"x": value}),
        lambda: Headers().set("x", value),
        lambda: Headers().append("x", value),
        lambda: Headers().__setitem__("x", value),
    ):
        with pytest.raises(TypeError, match="Invalid header value for 'x'"):
            change()


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é", "a\0", 5, None])
def test_a_name_is_a_token(name: object):
    with pytest.raises(TypeError, match="Invalid header name"):
        Headers([(name, "1")])
    with pytest.raises(TypeError, match="Invalid header name"):
        Headers().set(name, "1")  # type: ignore[arg-type]


@given(st.text(max_size=20), st.text(max_size=20))
def test_nothing_gets_in_that_would_end_a_line(name: str, value: str):
    headers = Headers()
    try:
        headers.append(name, value)
    except TypeError:
        assert headers.raw == []
    else:
        ((raw_name, raw_value),) = headers.raw
        assert not set(b"\r\n\0: ") & set(raw_name)
        assert not set(b"\r\n\0") & set(raw_value)
        assert headers.get(name) == raw_value.decode("latin-1")


@pytest.mark.parametrize("init", ["a: b", 5, [("a",)], [("a", "b", "c")], b"x"])
def test_what_are_no_headers_is_refused(init: object):
    with pytest.raises(TypeError):
        Headers(init)  # type: ignore[arg-type]


def test_what_belongs_to_an_incoming_request_stays():
    headers = Headers.of_raw([(b"a", b"1")], fixed=True)
    for change in (lambda: headers.set("a", "2"), lambda: headers.append("b", "2"), lambda: headers.delete("a")):
        with pytest.raises(TypeError, match="Can't modify immutable headers"):
            change()
    copy = headers.copy()
    copy.set("a", "2")
    assert (headers["a"], copy["a"]) == ("1", "2")
    assert Headers(headers).copy() == headers


def test_shown_headers_keep_secrets():
    shown = repr(Headers({"Authorization": "Bearer hush", "Cookie": "hush", "Set-Cookie": "hush", "X": "1"}))
    assert "hush" not in shown
    assert "'x': '1'" in shown


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://test.com", "https://test.com/"),
        ("HTTPS://Test.COM:443/A", "https://test.com/A"),
        ("http://a:8080?x", "http://a:8080/?x"),
        ("http://a/b/../c/./d%20e f?q=a b#g h", "http://a/c/d%20e%20f?q=a%20b#g%20h"),
        ("http://a/../../x", "http://a/x"),
        ("http://a/b/..", "http://a/"),
        ("http://a/b/%2E%2e/c", "http://a/c"),
        ("http://b\u00fccher.example/\u00e9", "http://xn--bcher-kva.example/%C3%A9"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("  http://a/\n", "http://a/"),
    ],
)
def test_a_url_has_one_form(written: str, url: str):
    assert absolute(written) == url
    assert absolute(url) == url


@pytest.mark.parametrize(
    "written",
    ["", "/x", "a", "//a/b", "ftp://a/", "http://", "http:///x", "http://a:b/", "http://a b/", "http://u:p@a/",
     "http://a@b/", "javascript:x", "http://a:99999/", "http://[::1/", "http://\u2100/"],
)  # fmt: skip
def test_what_is_no_url_is_refused(written: str):
    with pytest.raises(TypeError, match="Invalid URL"):
        absolute(written)


def test_where_a_location_leads():
    assert joined("http://a/b/c?d", "e") == "http://a/b/e"
    assert joined("http://a/b", "//c/d") == "http://c/d"
    assert joined("https://a/b", "?q") == "https://a/b?q"
    with pytest.raises(TypeError):
        joined("http://a/b", "file:///etc/passwd")

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl.text import clean, clean_lines, mask_urls

any_text = st.text(st.characters())


@given(any_text)
def test_no_control_or_format_character_survives(text: str) -> None:
    assert not {unicodedata.category(c) for c in clean(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(any_text)
def test_lines_keep_newlines_and_tabs_and_nothing_else(text: str) -> None:
    kept = clean_lines(text)
    assert kept.count("\n") == text.count("\n")
    assert clean(kept.replace("\n", "").replace("\t", "")) == clean(text.replace("\n", "").replace("\t", ""))


@given(any_text)
def test_cleaned_text_can_be_printed_anywhere_and_stays_as_it_is(text: str) -> None:
    clean(text).encode()
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\x9b2Jb", r"a\x9b2Jb"),
        ("two\nlines\tand\r", r"two\nlines\tand\r"),
        ("user\u202egpj.exe", r"user\u202egpj.exe"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("half \udc80", r"half \udc80"),
        ("line\u2028separator", r"line\u2028separator"),
        ("DEL\x7f", r"DEL\x7f"),
    ],
)
def test_what_would_drive_a_terminal_is_shown_instead(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize("text", ["Grüße", "日本語\u3000の件名", "a\u00a0b", "🚀 ship it", "e\u0301", "C:\\x1b"])
def test_ordinary_text_of_any_language_is_left_alone(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://joe:hunter2@host/x", "https://***@host/x"),
        ("https://ghp_token@github.com/acme/shop.git", "https://***@github.com/acme/shop.git"),
        ("https://joe:p@ss@host/x", "https://***@host/x"),
        ("postgres://u:p/w?d@host/db", "postgres://***@host/db"),
        ("HTTPS://U:P@HOST", "HTTPS://***@HOST"),
        ("failed (https://a:b@c, https://d:e@f)", "failed (https://***@c, https://***@f)"),
        ('{"url":"https://a:b@c","by":"x@y"}', '{"url":"https://***@c","by":"x@y"}'),
        ("https://h/x?access_token=abc&page=2", "https://h/x?access_token=***&page=2"),
        ("https://h/x?X-Amz-Signature=abc#end", "https://h/x?X-Amz-Signature=***#end"),
        ("git clone https://oauth2:t0k@gitlab.com/a/b", "git clone https://***@gitlab.com/a/b"),
    ],
)
def test_credentials_in_urls_are_masked(text: str, shown: str) -> None:
    assert mask_urls(text) == shown
    assert mask_urls(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/mail@example.com",
        "https://host/~joe@home",
        "https://host/?mail=a@b.c&page=2",
        '"https://host","joe@example.com"',
        "git@github.com:acme/shop.git",
        "no URL, but joe:secret@host",
    ],
)
def test_urls_without_credentials_stay_as_they_are(text: str) -> None:
    assert mask_urls(text) == text


@pytest.mark.parametrize("part", ["://", "a", "://u:x", "?token", "@", "://u:x@", "\x1b"])
def test_a_huge_text_is_no_trap(part: str) -> None:
    """Where a pattern backtracks, this one does not end."""
    assert mask_urls(clean(part * 200_000))

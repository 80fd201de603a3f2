"""Text from elsewhere, made fit to print: a git subject must not drive a terminal, an error must not show a token."""

import re

_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")

_NO_TERMINATOR = r'[^\s"<>`]'
_USER_INFO = re.compile(
    r"(?<=://)(?:"
    r'[^\s"<>`/?#]*@'
    # A password with a raw slash: not a URL by the standard, but typed all the same. `host:8080/x@y` is none.
    rf'|[^\s"<>`/?#:@]*:(?!\d*(?:[/?#\s"]|$))(?:(?!://){_NO_TERMINATOR})*@'
    r")"
)
_QUERY_SECRET = re.compile(
    r"([?&;](?:[\w.-]{0,40}(?:token|secret|passw|signature|credential|api_?key|auth)[\w.-]{0,40}|sig|key|pwd)=)"
    r'[^&;#\s"<>]+',
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """One line, safe for a terminal: control, format (bidirectional too) and unassigned characters and lone surrogates
    become visible escapes such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(character if _is_plain(character) else _escaped(character) for character in text)


def clean_lines(text: str) -> str:
    """As `clean`, but newlines and tabs stay."""
    return "".join(
        character if _is_plain(character) or character in "\n\t" else _escaped(character) for character in text
    )


def mask_urls(text: str) -> str:
    """Credentials in any URL become `***`: before the host, and in query values whose names speak of a secret."""
    return _QUERY_SECRET.sub(r"\1***", _USER_INFO.sub("***@", text))


def _is_plain(character: str) -> bool:
    return character.isprintable() or character in _SPACES


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""Modules that exist where Python runs inside a JavaScript engine, and what to write instead."""

from collections.abc import Collection

ABSENT = frozenset({"js", "pyodide", "pyodide_js", "_pyodide", "_cloudflare"})

_WORKERS = frozenset({"Response", "Request", "Headers", "FormData", "Blob", "File", "fetch"})
_PLAIN = {
    "console": "print() or logging",
    "Object": "dict",
    "Array": "list",
    "Uint8Array": "bytes",
    "ArrayBuffer": "bytes",
    "JSON": "the module json",
    "Date": "the module datetime",
    "Promise": "asyncio",
    "setTimeout": "asyncio.sleep",
    "URL": "urllib.parse",
    "URLSearchParams": "urllib.parse",
    "crypto": "the modules secrets and hashlib",
    "ReadableStream": "an async iterator of bytes",
    "WebSocket": "nothing yet: web sockets are not supported",
}


def explain(name: str, wanted: Collection[str]) -> str:
    """`wanted`: what stands after `import` in `from name import …`."""
    statement = f"from {name} import {', '.join(wanted)}" if wanted else f"import {name}"
    return f"{statement}: handlers run on CPython, where there is no {name.partition('.')[0]}; {_instead(name, wanted)}"


def _instead(name: str, wanted: Collection[str]) -> str:
    if name == "pyodide.http":
        return "write instead: from workers import fetch"
    if name.startswith(("pyodide", "_pyodide")):
        return "no conversion is needed: values are plain Python values"
    ours = [each for each in wanted if each in _WORKERS]
    if ours:
        return f"write instead: from workers import {', '.join(ours)}"
    plain = [f"{each}: {_PLAIN[each]}" for each in wanted if each in _PLAIN]
    return f"use instead: {'; '.join(plain)}" if plain else "workers and the standard library have what handlers need"

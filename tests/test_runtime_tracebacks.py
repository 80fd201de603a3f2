"""What the author of a service is shown when it fails."""

import asyncio
import linecache
from pathlib import Path
from textwrap import dedent

import pytest

from svcctl.runtime.tracebacks import readable
from svcctl.runtime.workers import Headers


def raised(folder: Path, text: str, name: str = "worker.py") -> BaseException:
    """By a service's file, when its `fetch` is called from asyncio."""
    file = folder / name
    file.write_text(dedent(text))
    linecache.clearcache()
    names: dict[str, object] = {"Headers": Headers}
    try:
        exec(compile(file.read_text(), str(file), "exec"), names)
        asyncio.run(names["fetch"]())  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001 - which one is the test's business
        return error
    raise AssertionError("nothing was raised")


def test_it_begins_with_the_services_own_line_and_names_the_service(tmp_path: Path):
    error = raised(tmp_path, "async def fetch():\n    return {}['key']\n")
    text = readable(error, {str(tmp_path): "shop/production@12"})
    frames = [line for line in text.splitlines() if line.startswith("  File")]
    assert frames == [f'  File "{tmp_path}/worker.py", line 2, in fetch  [shop/production@12]']
    assert text.endswith("KeyError: 'key'")


def test_what_the_runtime_did_below_is_left_out(tmp_path: Path):
    error = raised(tmp_path, "async def fetch():\n    Headers([1])\n")
    assert "svcctl/runtime" not in readable(error, {str(tmp_path): "shop/production@12"})


def test_causes_stay(tmp_path: Path):
    error = raised(
        tmp_path,
        """
        async def fetch():
            try:
                try:
                    1 / 0
                except ZeroDivisionError as error:
                    raise LookupError("second") from error
            except LookupError:
                raise RuntimeError("third")
        """,
    )
    text = readable(error, {str(tmp_path): "shop/production@12"})
    told = [line for line in text.splitlines() if line and line[0].isalpha() and not line.startswith("Traceback")]
    assert told == [
        "ZeroDivisionError: division by zero",
        "The above exception was the direct cause of the following exception:",
        "LookupError: second",
        "During handling of the above exception, another exception occurred:",
        "RuntimeError: third",
    ]
    assert text.count("[shop/production@12]") == 3


def test_groups_are_shown_whole(tmp_path: Path):
    error = raised(tmp_path, "async def fetch():\n    raise ExceptionGroup('two', [KeyError(1), ValueError(2)])\n")
    text = readable(error, {str(tmp_path): "shop/production@12"})
    assert "KeyError: 1" in text
    assert "ValueError: 2" in text


def test_a_syntax_error_names_file_and_line(tmp_path: Path):
    try:
        compile("def broken(:\n", str(tmp_path / "worker.py"), "exec")
    except SyntaxError as error:
        error.__traceback__ = None
        text = readable(error, {})
    assert text.splitlines() == [
        f'  File "{tmp_path}/worker.py", line 1', "    def broken(:", "               ^", "SyntaxError: invalid syntax",
    ]  # fmt: skip


def test_an_error_that_no_service_had_a_part_in_is_shown_whole():
    with pytest.raises(TypeError) as caught:
        Headers([1])  # type: ignore[list-item]
    error = caught.value
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    assert "svcctl/runtime" in readable(error, {})


def test_control_characters_do_not_reach_a_terminal(tmp_path: Path):
    error = raised(tmp_path, "async def fetch():\n    raise ValueError('red \\x1b[31m\\rand \\u202eback')\n")
    text = readable(error)
    assert "\\x1b[31m\\rand \\u202eback" in text
    assert "\x1b" not in text


def test_an_error_that_can_not_be_shown_is_named(tmp_path: Path):
    error = raised(
        tmp_path,
        """
        class Odd(Exception):
            def __str__(self):
                raise RuntimeError("no text")
        async def fetch():
            raise Odd
        """,
    )
    assert readable(error).endswith("Odd: <exception str() failed>")

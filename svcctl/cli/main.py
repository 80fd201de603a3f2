"""The outermost frame: arguments in, exit status out. The one place where every exception ends."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NoReturn

import typer

from svcctl import wire
from svcctl.cli import failure, report
from svcctl.cli.app import root
from svcctl.cli.click import NoArgsIsHelpError
from svcctl.cli.context import Context
from svcctl.cli.output import shown, write
from svcctl.errors import BUG, INTERRUPTED, Differences, Refused, SvcctlError, Unauthorized, UsageError


def main() -> NoReturn:
    _open_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    status = run(sys.argv[1:], os.environ)
    _flush()
    sys.exit(status)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """One command, in this process."""
    context = Context(environ, arguments)
    try:
        try:
            return _execute(context)
        except Exception as error:  # noqa: BLE001 - the boundary: what is not expected becomes a report
            return _fail(context, error)
    except BrokenPipeError:
        return failure.READER_GONE
    except KeyboardInterrupt:
        return INTERRUPTED


def _execute(context: Context) -> int:
    try:
        if "_SVCCTL_COMPLETE" in context.environ:
            from svcctl.cli import complete

            write(sys.stdout, complete.answer(root(), context))
            return 0
        _refuse_what_is_no_text(context.arguments)
        with root().make_context("svcctl", list(context.arguments), obj=context) as invocation:
            invocation.command.invoke(invocation)
    except typer.Exit as end:
        return end.exit_code
    finally:
        context.close()
    context.printed()
    return 0


def _refuse_what_is_no_text(arguments: Sequence[str]) -> None:
    """Bytes that are not UTF-8 come as lone surrogates, which can be neither stored nor sent."""
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"argument {number}, {argument[:60]!r}, is not valid UTF-8") from None


def _fail(context: Context, error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, NoArgsIsHelpError) and not context.json:
        _say(error.message + "\n")
        return error.exit_code
    found = failure.expected(error)
    if found is None:
        return _report(context, error)
    if isinstance(found, Unauthorized) and context.token_from:
        found.hint, found.next = f"the token comes from {context.token_from}", None
    if not (isinstance(found, Differences) and context.output.printed):
        _complain(context, found)
    return found.exit_status


def _complain(context: Context, error: SvcctlError) -> None:
    color = context.color and sys.stderr.isatty()
    _say(failure.sentences(error, color=color, causes=context.verbose))
    _answer(context, wire.problem(error))


def _report(context: Context, error: Exception) -> int:
    code, status = BUG
    text = report.compose(error, context.arguments, context.now)
    message = f"this is a bug in svcctl ({type(error).__name__})"
    try:
        hint = f"a report was written to {report.write(text, context.environ, context.now)}"
    except OSError as unwritten:
        hint = f"no report could be written ({unwritten.strerror}); -v prints it"
    _say(f"error: {message}\nhint: {shown(hint)}\n" + (text if context.verbose else ""))
    _answer(context, {"error": {"code": code, "message": message, "hint": hint, "next": None}})
    return status


def _answer(context: Context, problem: dict[str, object]) -> None:
    """The JSON document of a failure, unless the command's own was already printed."""
    if context.json and not context.output.printed:
        with contextlib.suppress(Refused):  # a full disk was the failure, and standard error has said so
            write(sys.stdout, wire.document(problem) + "\n")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # without standard error there is nobody to tell
        sys.stderr.write(text)
        sys.stderr.flush()


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds like an interrupt, so that locks and temporary files are let go."""
    sys.exit(failure.TERMINATED)


def _open_standard_streams() -> None:
    """A closed descriptor 0, 1 or 2 would be given to the next file opened: the store's, and then be printed into."""
    for name, mode, number in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        if getattr(sys, name) is None:
            _reopen(number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - closed with the process
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]


def _reopen(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)


def _flush() -> None:
    """Python flushes once more as it ends, and would turn a reader that went away into status 120."""
    try:
        sys.stdout.flush()
    except OSError:
        _reopen(1)

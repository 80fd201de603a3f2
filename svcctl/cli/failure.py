"""What a failure says, and which exit status it has.

Expected failures are SvcctlErrors, errors of the command line's own parser, and an operating system that says no (a
full disk, a folder that may not be read). Everything else is a bug. Statuses above 128 are those of a process that a
signal ended: 130 interrupted, 141 the reader of the output went away, 143 terminated.
"""

import errno

from svcctl.cli.click import ClickException, NoArgsIsHelpError
from svcctl.cli.output import shown
from svcctl.errors import Refused, SvcctlError, UsageError
from svcctl.text import clean_lines, mask_urls

READER_GONE = 141
TERMINATED = 143

_SYSTEM = {
    errno.ENOSPC: "free some space and type the command again",
    errno.EDQUOT: "free some space and type the command again",
    errno.EFBIG: "a limit on the size of files is in force (ulimit -f)",
    errno.EROFS: None,
    errno.EACCES: None,
    errno.EPERM: None,
    errno.EIO: "the disk may be failing; svcctl verify tells what is damaged",
    errno.EMFILE: "a limit on open files is in force (ulimit -n)",
    errno.ENOMEM: None,
    errno.ENOENT: None,
    errno.EISDIR: None,
    errno.ENOTDIR: None,
    errno.EEXIST: None,
    errno.ELOOP: None,
    errno.ENAMETOOLONG: None,
}


def expected(error: Exception) -> SvcctlError | None:
    """The error to show, or None: it is a bug."""
    match error:
        case SvcctlError():
            return error
        case NoArgsIsHelpError():
            return UsageError("missing command", next=f"{error.ctx.command_path} --help")
        case ClickException():
            return _usage(error)
        case OSError() if error.errno in _SYSTEM:
            where = f"{error.filename}: " if error.filename else ""
            return Refused(f"{where}{error.strerror}", hint=_SYSTEM[error.errno])
    return None


def _usage(error: ClickException) -> UsageError:
    """click ends its sentences with a full stop and starts them with a capital; svcctl's errors do neither."""
    text = error.format_message().removesuffix(".")
    ctx = getattr(error, "ctx", None)
    return UsageError(text[:1].lower() + text[1:], next=f"{ctx.command_path} --help" if ctx else None)


def sentences(error: SvcctlError, *, color: bool, causes: bool) -> str:
    """The text for standard error: what is wrong, what to know, what to type next."""
    label = "\x1b[31merror:\x1b[0m" if color else "error:"
    lines = [f"{label} {mask_urls(clean_lines(error.message))}"]
    lines += [f"hint: {mask_urls(clean_lines(error.hint))}"] if error.hint else []
    lines += [f"next: {shown(error.next)}"] if error.next else []
    cause = error.__cause__
    while causes and cause is not None:
        lines.append(f"caused by: {type(cause).__name__}: {shown(str(cause))}")
        cause = cause.__cause__
    return "\n".join(lines) + "\n"

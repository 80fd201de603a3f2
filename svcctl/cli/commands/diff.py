from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import typer

from svcctl import reference
from svcctl.cli import building, complete, target
from svcctl.cli.comparing import WORKING_TREE, Pair, Version, difference, patch_of, present, stored, working_tree
from svcctl.cli.context import Context
from svcctl.cli.options import ServiceOption
from svcctl.cli.output import Block, Cell, Column, Content, Lines, Note, Style, Success, Table
from svcctl.cli.output import Patch as PatchBlock
from svcctl.errors import Differences, UsageError
from svcctl.model import Binding, Diff, FileDifference, How, SettingDifference, Value
from svcctl.reference import Reference
from svcctl.rules.patch import Patch
from svcctl.rules.reading import check_one_service

_STYLES: dict[How, Style] = {"added": "add", "removed": "remove", "changed": "warn"}

Side = Annotated[
    str | None,
    typer.Argument(metavar="REF", help="[service/]environment[@version].", autocompletion=complete.references),
]


def diff(
    context: Context,
    a: Side = None,
    b: Side = None,
    service: ServiceOption = None,
    stat: Annotated[bool, typer.Option("--stat", help="Count lines instead of showing them.")] = False,
    code_only: Annotated[bool, typer.Option("--code-only", help="Leave out settings and routes.")] = False,
    settings_only: Annotated[bool, typer.Option("--settings-only", help="Leave out files and commits.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with status 8 where anything differs.")] = False,
) -> None:
    """Compare two versions, or the working tree with what runs.

    With one REF: the working tree against it. Without: against the head of default_environment. Secrets are compared
    by fingerprint and never shown. Needs no network."""
    if code_only and settings_only:
        raise UsageError("--code-only and --settings-only leave nothing to compare", hint="give one of them, or none")
    pairs = _pairs(context, a, b, service)
    found = [_narrowed(difference(context, pair), code_only, settings_only) for pair in pairs]
    answer = found[0] if len(found) == 1 else {"diffs": found}
    context.show(answer, _blocks(pairs, found, stat=stat))
    if exit_code and not all(each.same for each in found):
        raise Differences("there are differences")


def _narrowed(diff: Diff, code_only: bool, settings_only: bool) -> Diff:
    if code_only:
        return msgspec.structs.replace(diff, settings=(), routes=(), protected=None)
    if settings_only:
        return msgspec.structs.replace(diff, start=(), files=(), commits=(), logged=True, compare=None)
    return diff


# ---- which


def _pairs(context: Context, a: str | None, b: str | None, services: Sequence[str] | None) -> list[Pair]:
    first = reference.parse(a or _default(context))
    if b is None:
        return _with_working_tree(context, first, services)
    second = reference.parse(b)
    if first.service or second.service:
        one, other = first.service or second.service, second.service or first.service
        return present([Pair(str(one), _in(context, first, one), _in(context, second, other))])
    chosen = list(services or _services(context))
    for at in (first.at, second.at):
        check_one_service(at, chosen)
    return present([Pair(name, _in(context, first, name), _in(context, second, name)) for name in chosen])


def _with_working_tree(context: Context, first: Reference, services: Sequence[str] | None) -> list[Pair]:
    chosen = building.chosen(context.project, [first.service] if first.service else services)
    check_one_service(first.at, list(chosen))
    before = {name: _in(context, first, name) for name in chosen}
    if all(version.missing for version in before.values()):
        present([Pair(name, version, version) for name, version in before.items()])
    after = working_tree(context, chosen, first.environment)
    return [Pair(name, before[name], after[name]) for name in chosen]


def _in(context: Context, reference: Reference, service: str | None) -> Version:
    return stored(context, Reference(reference.environment, service, reference.at))


def _services(context: Context) -> list[str]:
    return [each.name for each in context.backend.services(target.project(context).name)]


def _default(context: Context) -> str:
    name = context.environ.get(target.ENVIRONMENT) or target.project(context).default_environment
    if name:
        return name
    raise UsageError(
        "compare the working tree with what? services.toml names no default_environment", next="svcctl diff production"
    )


# ---- as people read it


def _blocks(pairs: Sequence[Pair], found: Sequence[Diff], *, stat: bool) -> Iterator[Block]:
    if not found or all(diff.same and not diff.commits for diff in found):
        yield Success("no differences")
        return
    for pair, diff in zip(pairs, found, strict=True):
        title = f"{diff.a} → {diff.b}" if diff.b != WORKING_TREE else f"{diff.a} → {pair.service} of the working tree"
        if diff.same and not diff.commits:
            yield Lines([[Cell(title, "dim"), Cell("no differences", "dim")]])
            continue
        yield Lines(["", Cell(title, "live")] if pair is not pairs[0] else [Cell(title, "live")])
        yield from _missing(pair)
        yield from _settings(diff)
        yield from _identity(diff)
        yield from _commits(diff)
        yield from _start(diff)
        yield from _stat(pair, diff) if stat else _patches(pair, diff)


def _missing(pair: Pair) -> Iterator[Block]:
    for version, other in ((pair.a, pair.b), (pair.b, pair.a)):
        if version.missing:
            yield Note(f"{version.missing.message}: all that {other.side.ref} has is listed")


def _settings(diff: Diff) -> Iterator[Block]:
    if diff.settings:
        yield Table(
            ["setting", "kind", "change", Column("from", wrap=True), Column("to", wrap=True)],
            [_setting_row(each) for each in diff.settings],
        )


def _setting_row(each: SettingDifference) -> Sequence[Content]:
    return [
        each.name,
        each.kind,
        Cell(each.change, _STYLES[each.change]),
        _value(each, each.old),
        _value(each, each.new),
    ]


def _value(each: SettingDifference, value: Value | None) -> str | None:
    if value is None:
        return None
    if each.kind == "binding":
        return str(msgspec.convert(value, Binding))
    return msgspec.json.encode(value).decode()


def _identity(diff: Diff) -> Iterator[Block]:
    lines: list[Sequence[Content]] = [
        [Cell(each.change, _STYLES[each.change]), f"route {each.route}"] for each in diff.routes
    ]
    if diff.protected is not None:
        lines.append([Cell("changed", "warn"), "protected" if diff.protected else "not protected"])
    if lines:
        yield Lines(lines)


def _commits(diff: Diff) -> Iterator[Block]:
    if diff.commits:
        rows = [
            [diff.a if each.side == "a" else diff.b, each.sha[:7], each.subject, each.author.partition(" <")[0]]
            for each in diff.commits
        ]
        yield Table(["only in", "commit", Column("subject", wrap=True), "author"], rows)
    if not diff.logged:
        yield Note("there is no repository here that has both commits; these are the two that were deployed from")
        if diff.compare:
            yield Note(f"the commits between them: {diff.compare}")


def _start(diff: Diff) -> Iterator[Block]:
    if diff.start:
        yield Lines([[Cell("changed", "warn"), f"{each.name}: {each.old} → {each.new}"] for each in diff.start])


def _stat(pair: Pair, diff: Diff) -> Iterator[Block]:
    if diff.files:
        yield Table(
            ["file", "change", Column("lines added", right=True), Column("removed", right=True), "instead"],
            [_stat_row(file, patch_of(pair, file)) for file in diff.files],
        )


def _stat_row(file: FileDifference, patch: Patch) -> Sequence[Content]:
    how = Cell(file.change, _STYLES[file.change])
    counts = [None, None] if patch.instead else [Cell(f"+{patch.added}", "add"), Cell(f"-{patch.removed}", "remove")]
    return [file.path, how, *counts, _words(file, patch)]


def _patches(pair: Pair, diff: Diff) -> Iterator[Block]:
    for file in diff.files:
        patch = patch_of(pair, file)
        words = _words(file, patch)
        if words or not patch.text:
            yield Lines([[Cell(file.change, _STYLES[file.change]), file.path, f"({words or 'empty'})"]])
        if patch.text:
            yield PatchBlock(patch.text)


def _words(file: FileDifference, patch: Patch) -> str | None:
    """What lines can't show."""
    words = [patch.instead] if patch.instead else []
    if file.old and file.new and file.old.executable != file.new.executable:
        words.append("now executable" if file.new.executable else "no longer executable")
    return ", ".join(words) or None

"""Values as blocks: how plans, changes, versions and history look to a person."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from svcctl import digest
from svcctl.backend.base import Event, Filter
from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.cli.output import Block, Cell, Column, Content, Fields, Lines, Note, Success, Table, When
from svcctl.model import Change, Code, Environment, Version
from svcctl.rules.state import Plan

_DONE = {
    "deploy": "deployed",
    "configure": "configured",
    "promote": "promoted",
    "rollback": "rolled back",
    "clone": "cloned",
    "create": "created",
    "rename": "renamed",
    "delete": "deleted",
    "prune": "pruned",
    "protect": "done",
    "route": "done",
    "tag": "done",
    "delete-service": "deleted",
    "create-token": "created",
    "revoke-token": "revoked",
}


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plan(what: Plan) -> Iterator[Block]:
    """Nothing was done yet."""
    if not what.steps:
        yield Success("nothing to do")
    else:
        yield Lines(
            [Cell(f"{what.kind.partition('-')[0]} would:", "dim"), *(f"  {step.sentence}" for step in what.steps)]
        )
    if what.kind in ("promote", "rollback", "clone") and what.steps:
        yield Lines([Cell("  0 bytes to upload", "dim")])
    for note in what.notes:
        yield Note(note)


def change(what: Change, *, said: Collection[str] = ()) -> Iterator[Block]:
    """`said` are sentences that stand elsewhere in the answer."""
    if not what.changed:
        yield Success("nothing to do")
    else:
        yield Success(f"{_DONE[what.kind]} in change c{what.number}")
        yield Lines([f"  {sentence}" for sentence in what.summary if sentence not in said])
    for note in what.notes:
        yield Note(note)


def with_hostnames(context: Context, what: Change, names: Collection[str]) -> Iterator[Block]:
    """A change that put code somewhere ends with where to reach it."""
    touched = {version.service for version in what.versions} or None
    environments = context.backend.environments(target.project(context).name, touched, names)
    yield from change(what, said={f"{each.ref}: created at {each.hostname}" for each in environments})
    yield from hostnames(environments)


def rolled_back(what: Change, environment: str, services: Sequence[str], *, secrets: bool) -> Iterator[Block]:
    yield from change(what)
    if what.changed and what.number:
        only = "".join(f" -s {service}" for service in services)
        too = " --restore-secrets" if secrets else ""
        yield Note(f"to undo this: svcctl rollback {environment}{only} --to c{what.number - 1}{too}")


def hostnames(environments: Sequence[Environment]) -> Iterator[Block]:
    """Where what was just made can be reached."""
    rows: list[tuple[str, Content]] = []
    for each in environments:
        rows.append((f"  {each.ref}", Cell(", ".join([each.hostname or "", *each.routes]), "live")))
        if each.lacks:
            rows.append(("  not live", Cell(f"lacks {', '.join(each.lacks)}", "bad")))
    if rows:
        yield Fields(rows)


def what_happened(version: Version) -> str:
    """`promoted from staging@7`, `rolled back to 3`, `LOG_LEVEL changed`."""
    words = {
        "deploy": "deployed",
        "promote": f"promoted from {_near(version, version.source)}",
        "clone": f"cloned from {_near(version, version.source)}",
        "rollback": _rolled_back(version),
    }.get(version.kind, "")
    note = version.note or ""
    if version.kind == "deploy" and version.code and version.code.since != version.number:
        words = "settings deployed"
    text = f"{words} · {note}" if words and note else words or note or version.kind
    return f"{text} — {version.message}" if version.message else text


def _rolled_back(version: Version) -> str:
    restores = version.restores
    if restores is None:
        return "rolled back"
    if restores.code and restores.settings:
        if restores.code == restores.settings:
            return f"rolled back to {restores.code}"
        return f"rolled back: code to {restores.code}, settings to {restores.settings}"
    return f"code rolled back to {restores.code}" if restores.code else f"settings rolled back to {restores.settings}"


def _near(version: Version, source: str | None) -> str:
    """Without the service, where it is the same."""
    return (source or "a deleted environment").removeprefix(version.service + "/")


def commit_words(code: Code | None) -> str:
    commit = code.commit if code else None
    if commit is None:
        return ""
    dirty = f" +{counted(len(commit.files), 'file')}" if commit.dirty else ""
    return f"{commit.sha[:7]} {commit.subject}{dirty}"


def short(code: Code | None) -> str:
    return digest.short(code.digest) if code else "-"


def history(
    versions: Sequence[Version],
    events: Sequence[Event],
    live: Mapping[str, int | None] | Collection[str],
    *,
    one: bool,
    empty: str = "no versions yet",
) -> Iterator[Block]:
    """`live` holds the references of heads. `one`: all rows are one environment's."""
    columns: list[str | Column] = [
        "live",
        "version",
        "age",
        "who",
        Column("what", wrap=True),
        "code",
        Column("commit", wrap=True),
        "tags",
    ]
    rows = [(version.change or 0, 1, version.number, _version_row(version, live, one=one)) for version in versions]
    rows += [(event.change, 0, 0, _event_row(event, one=one)) for event in events]
    rows.sort(key=lambda row: row[:3], reverse=True)
    yield Table(columns, [row[3] for row in rows], empty=empty)


def none_of(noun: str, filter: Filter, *, more: bool) -> str:
    """What is said in place of an empty page. One with `more` behind it had rows that a token does not see."""
    if more:
        return f"no {noun} on this page that you may see"
    return f"no {noun} yet" if filter == Filter() else f"no {noun} like that"


def _version_row(version: Version, live: Mapping[str, int | None] | Collection[str], *, one: bool) -> list[Content]:
    alive = version.ref in live
    return [
        Cell("●" if alive else "", "live"),
        Cell(str(version.number) if one else version.ref, "live" if alive else None),
        When(version.at),
        version.actor.partition(" <")[0],
        what_happened(version),
        short(version.code),
        commit_words(version.code),
        Cell(" ".join(version.tags), "ok"),
    ]


def _event_row(event: Event, *, one: bool) -> list[Content]:
    place = "" if one else event.ref
    return [
        "",
        Cell(place, "dim"),
        When(event.at, "dim"),
        Cell(event.actor.partition(" <")[0], "dim"),
        Cell(event.text, "dim"),
        "",
        "",
        "",
    ]


def version(what: Version) -> Iterator[Block]:
    code, commit = what.code, what.code.commit if what.code else None
    yield Fields(
        [
            ("version", Cell(what.ref, "live")),
            ("what", what_happened(what)),
            ("by", what.actor),
            ("at", When(what.at)),
            ("change", f"c{what.change}"),
            ("message", what.message),
            ("tags", " ".join(what.tags) or None),
            ("code", f"{code.digest} (since version {code.since})" if code else "none"),
            ("commit", commit_words(code) or None),
            ("branch", commit.branch if commit else None),
            ("author", commit.author if commit else None),
            ("remote", commit.remote if commit else None),
            ("requires", _requires(code)),
            ("settings", f"{what.settings.digest} (since version {what.settings.since})"),
            ("meta", ", ".join(f"{key}={value}" for key, value in what.meta.items()) or None),
            ("record", what.digest),
            ("parent", what.parent),
        ]
    )


def _requires(code: Code | None) -> str | None:
    if code is None:
        return None
    needs = code.requires
    return ", ".join([*needs.vars, *(f"{name} (secret)" for name in needs.secrets), *needs.bindings]) or None

"""A change as far as it lies in somebody's scope. What it did is told by sentences, each of which begins with what it
is about; which environments those were is known by their ids, under today's names (`Change.touched`).
"""

from msgspec.structs import replace

from svcctl import names
from svcctl.model import Change, Token
from svcctl.rules import access


def for_holder(token: Token, change: Change) -> Change | None:
    """None where nothing of it is in scope and somebody else made it."""
    seen = tuple(ref for ref in change.touched if _sees(token, ref))
    if not seen and change.actor != token.name:
        return None
    if seen == change.touched:
        return change
    named = set(map(_subject, change.summary))
    renamed = [ref for ref in change.touched if ref not in named]

    def is_seen(sentence: str) -> bool:
        subject = _subject(sentence)
        service, slash, _ = subject.partition("/")
        if not slash:
            return names.check_name(service) is None and access.covers_service(token, service)
        if subject in change.touched:
            return subject in seen
        # As it was called then: one of those that are called otherwise today.
        could_be = [ref for ref in renamed if ref.startswith(f"{service}/")]
        return bool(could_be) and all(ref in seen for ref in could_be)

    return replace(
        change,
        summary=tuple(filter(is_seen, change.summary)),
        notes=tuple(filter(is_seen, change.notes)),
        touched=seen,
        versions=tuple(each for each in change.versions if access.covers(token, each.service, each.environment)),
    )


def _sees(token: Token, ref: str) -> bool:
    service, _, environment = ref.partition("/")
    return access.covers(token, service, environment)


def _subject(sentence: str) -> str:
    """An environment, a service or a project."""
    return sentence.removeprefix("forced: ").partition(":")[0].partition("@")[0]

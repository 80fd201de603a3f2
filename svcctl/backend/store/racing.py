"""Writers side by side: the theory of operation on PostgreSQL.

One call of `apply` is one transaction, READ COMMITTED, in two round trips or a few more.

1. *Queueing.* The rows of the environments that a command names are locked, in the order of their ids, and only then is
   anything read: what most plans ask for by one statement that is sent along (`Ledger.ahead`). Who wants the same
   environment waits there, so that nobody plans in vain; who wants another does not meet him. A deadlock can only come
   from what a command does not name (`Prune`); those rows are locked when a first plan has shown them, in a transaction
   begun anew.
2. *Planning.* `since` is the newest change's number as that statement saw it. The rules read what they want; the
   ledger keeps where they looked (`footprint`): environments by id, by name (also where there was none), whole
   services, who is bound to whom, who has routes. Services, projects and tokens have a chain of their own, and always
   count.
3. *Concluding.* Everything is sent in one go: what needs no number, then the numbering lock, the change with the next
   number and what carries it, the commit. The number is divided by the *guard*, which is 0 if a change after `since`
   touched the footprint; then the whole is made again, on what there is now. Plans are pure, so this is safe; it is
   also rare, for step 1. A refusal is looked over in the same way before it is told. So what `apply` does is what it
   would have done had the changes come one after another, in the order of their numbers. What must be unique is so by
   its constraint too; one that fires means that another was faster, and that the plan is to be made again.

*Numbers* follow one another without gap, in the order of commits. A sequence would give them without a lock; but its
numbers become visible out of order and are lost with each roll back and crash, and then followers need a watermark,
`cN` is no instant, and a copy of the store elsewhere has holes. Instead the numbering lock is held for as long as the
server needs for the few statements behind it: no turn of the client, for they lie in its socket already, and no disk,
for the commit does not wait for it (`synchronous_commit = off`). The wait comes after the lock, for all who were
there meanwhile at once. That keeps the promise of `apply`: durable when it returns. No row waits under the lock, since
all that the change alters are locked by then.

*Followers.* A change is visible only after all with lower numbers, so whoever saw N has missed none below. It may be
visible for the time of one write to disk before it is durable: numbers that others build on (`follow`, `wait`, `plan`,
`change`) are told after `Database.settle`, lest a crash takes back what a follower saw, and gives its number away.

*A lost connection* leaves open whether a commit under way was done. The command's id tells: it is asked for first.

gc deletes an artifact only under a row lock that excludes the one by which `apply` keeps what its plan runs.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, assert_never

from svcctl.backend.store import migrations
from svcctl.backend.store.database import Again, Database, Lost, Statement, Taken
from svcctl.backend.store.ledger import Ahead, Ledger
from svcctl.errors import Conflict
from svcctl.model import EnvironmentId, Project
from svcctl.names import PRODUCTION

if TYPE_CHECKING:
    from svcctl.commands import Command

_DONE = "SELECT (SELECT max(number) FROM changes), (SELECT number FROM changes WHERE id = ?)"
_NAMED = "service = ANY(?) AND name = ANY(?)"
_OF_PROJECT = "service IN (SELECT name FROM services WHERE project = ?) AND name = ANY(?)"
_MORE = "SELECT unnest(CAST(? AS text[])) UNION ALL SELECT id FROM environments WHERE "
_QUEUE = "SELECT id FROM environments WHERE {rows} ORDER BY id FOR UPDATE"
_ATTEMPTS = 200
_TAKEN = 3
_PATIENCE = 10.0
"""Seconds for which a server that went away is waited for; it may be starting again."""
_PAUSE = 0.1

T = TypeVar("T")


class Turn:
    """A command's turn to be applied, from its place in the queue on; inside a writing transaction."""

    def __init__(self, database: Database, command: "Command", more: Iterable[EnvironmentId] = ()) -> None:
        """`more` are environments that an earlier try turned out to touch."""
        self._db = database
        self._queued: set[EnvironmentId] = set()
        self.ledger = Ledger(database)
        if database.alone:
            newest, done = database.one(_DONE, (command.id,)) or (None, None)
            schema = database.schema("ledger")
        else:
            ahead = _ahead(command)
            *queued, answer = database.together([*_queue(command, more), self.ledger.ahead(ahead)])
            self._queued = {id for rows in queued for (id,) in rows}
            newest, done, schema = self.ledger.remember(ahead, answer)
        migrations.refuse_newer(schema)
        self.since = int(newest or 0)
        self.done = done is not None

    def look_again(self) -> None:
        """Before something is told that is no change: raises Again if it may not be so any more."""
        if not self._db.alone:
            conditions, parameters = _any_of(self.ledger.looked.guards(self.since))
            if self._db.one(f"SELECT 1 WHERE {conditions}", parameters):
                raise Again

    def cover(self, touched: Iterable[EnvironmentId]) -> None:
        """Raises Overlooked if the plan alters rows that are not locked."""
        if not self._db.alone and (overlooked := set(touched) - self._queued):
            raise Overlooked(overlooked)

    def guard(self) -> Statement | None:
        """0 unless all is as it was read."""
        if self._db.alone:
            return None
        conditions, parameters = _any_of(self.ledger.looked.guards(self.since))
        return f"CASE WHEN {conditions} THEN 0 ELSE 1 END", parameters


class Overlooked(Again):
    """Environments must be locked that the command does not name."""

    def __init__(self, environments: Iterable[EnvironmentId]) -> None:
        super().__init__()
        self.environments = frozenset(environments)


def repeated(database: Database, attempt: Callable[[Collection[EnvironmentId]], T]) -> T:
    """Until nobody is faster. `attempt` gets environments that earlier ones had overlooked."""
    if database.alone:
        return attempt(())
    overlooked: frozenset[EnvironmentId] = frozenset()
    lost_at: float | None = None
    taken = 0
    for _ in range(_ATTEMPTS):
        try:
            return attempt(overlooked)
        except Overlooked as error:
            overlooked |= error.environments
        except Taken:
            taken += 1
            if taken == _TAKEN:
                raise
        except Lost:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > _PATIENCE:
                raise
            time.sleep(_PAUSE)
        except Again:
            pass
    raise Conflict(
        f"others changed the same {_ATTEMPTS} times while this was planned",
        hint="nothing was changed; look, then type the command again",
    )


def _queue(command: "Command", more: Iterable[EnvironmentId]) -> Iterator[Statement]:
    """Each kind has a text of its own, for the indexes that it can use."""
    names, services = concerned(command)
    found = sorted(more)
    if not names and not found:
        return
    named = _NAMED if services else _OF_PROJECT
    parameters = [services if named is _NAMED else command.project.name, names]
    if found:
        yield _QUEUE.format(rows=f"id IN ({_MORE}{named})"), [found, *parameters]
    else:
        yield _QUEUE.format(rows=named), parameters


def _ahead(command: "Command") -> Ahead:
    names, services = concerned(command)
    bound = _bound(command.project, services)
    return Ahead(
        command=command.id,
        project=command.project.name,
        whole=not services,
        services=[*services, *bound],
        environments=[*names, *_sources(command), *((PRODUCTION,) if bound or not services else ())],
    )


def _sources(command: "Command") -> Iterator[str]:
    """Environments that it copies from."""
    from svcctl import commands

    if isinstance(command, commands.Promote | commands.Clone):
        yield command.source.partition("@")[0].rpartition("/")[2]


def _bound(project: Project, services: Iterable[str]) -> Sequence[str]:
    """What the file binds them to: a plan looks whether it is there."""
    files = [project.services[each] for each in services if each in project.services]
    blocks = [block for file in files for block in (file.base, *file.blocks.values())]
    return sorted({binding.service for block in blocks for binding in block.layer.bindings.values() if binding.service})


def _any_of(conditions: Iterable[Statement]) -> Statement:
    texts, parameters = zip(*conditions, strict=True)
    return " OR ".join(texts), [each for some in parameters for each in some]


def concerned(command: "Command") -> tuple[list[str], list[str]]:
    """Names of environments, and of services, whose rows the command will alter. Not to name one costs another try."""
    from svcctl import commands, reference

    services = list(command.services or ())
    match command:
        case commands.Promote():
            names = [command.target]
        case commands.Clone():
            names = [command.target]
        case commands.Rename():
            names = [command.old, command.new]
        case commands.TagVersion():
            wanted = reference.parse(command.reference)
            names = [wanted.environment]
            services += [wanted.service] if wanted.service else []
        case commands.Prune() | commands.DeleteService() | commands.CreateToken() | commands.RevokeToken():
            names = []
        case (
            commands.Deploy()
            | commands.Configure()
            | commands.RollBack()
            | commands.CreateEnvironment()
            | commands.DeleteEnvironment()
            | commands.Protect()
            | commands.Route()
        ):
            names = [command.environment]
        case _:
            assert_never(command)
    return names, services

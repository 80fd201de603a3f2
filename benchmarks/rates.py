"""Changes a second through the API on PostgreSQL, against what `pgbench` does on the same server in the same minute."""

import statistics
from pathlib import Path

import msgspec

from benchmarks import scenes, served
from benchmarks.database import Server, pgbench
from benchmarks.measure import Figure
from benchmarks.plane import cpu
from svcctl import commands, wire
from svcctl.backend.store import Store
from svcctl.model import Change

WRITERS, SERVICES, ENVIRONMENTS, REPLICAS = 50, 5, 10, 2
SECONDS, ALONE = 5, 3

# What the store sends for one `Configure` (racing, writing), with pipelines where it has them. The values differ from
# change to change as they do there; the bodies are as long.
_SAME = r"""
\set service 1 + :client_id / 10
\set name :client_id % 10
\startpipeline
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT id FROM environments WHERE service = ANY(ARRAY['s' || :service]) AND name = ANY(ARRAY['e' || :name]) ORDER BY id FOR UPDATE;
\endpipeline
SELECT now.newest AS since, gen_random_uuid()::text AS change, now.done, now.domain, a.name AS found, a.project, e.name AS called, e.id AS environment, e.seq + 1 AS seq, e.tip, e.identity, s.body, r.environment AS of, coalesce(r.number, 0) + 1 AS number, r.change AS changed, r.digest, r.body, r.settings_since, r.settings_under, r.code_since, r.code_under FROM (SELECT (SELECT max(number) FROM changes) AS newest, (SELECT number FROM changes WHERE id = 'none') AS done, (SELECT domain FROM projects WHERE name = 'bench') AS domain) AS now LEFT JOIN services a ON a.name = ANY(ARRAY['s' || :service]) LEFT JOIN environments e ON e.service = a.name AND e.name = ANY(ARRAY['e' || :name]) AND e.living = 1 LEFT JOIN records r ON r.environment = e.id AND r.number = (SELECT max(number) FROM records WHERE environment = e.id) LEFT JOIN settings s ON s.digest = r.settings ORDER BY a.name \gset
\startpipeline
INSERT INTO settings (digest, body) VALUES (md5(:change) || md5(:change), convert_to(repeat('s', 63), 'UTF8')) ON CONFLICT DO NOTHING;
SELECT pg_advisory_xact_lock(1937138548, 2), set_config('synchronous_commit', 'off', true);
INSERT INTO changes (number, id, project, at, actor, digest, body) VALUES ((SELECT (coalesce(max(number), 0) + 1) / CASE WHEN (SELECT change FROM records WHERE environment = '' ORDER BY seq DESC LIMIT 1) > :since OR EXISTS (SELECT 1 FROM environments WHERE id = ANY(ARRAY[:environment]) AND changed > :since) OR EXISTS (SELECT 1 FROM environments e JOIN unnest(ARRAY['s' || :service], ARRAY['e' || :name]) AS looked (service, name) ON e.service = looked.service AND e.name = looked.name WHERE e.changed > :since) THEN 0 ELSE 1 END FROM changes), :change, 'bench', '2026-01-01T00:00:00.000Z', 'bench', md5(:change) || md5(:change), convert_to(repeat('c', 161), 'UTF8')) RETURNING number;
INSERT INTO records (environment, seq, change, number, digest, settings, settings_since, settings_under, code, code_since, code_under, deployed, restored_settings, body) VALUES (:environment, :seq, (SELECT number FROM changes WHERE id = :change), :number, md5(:change) || md5(:change), md5(:change) || md5(:change), :number, :number - 1, md5('code') || md5('code'), 1, NULL, NULL, NULL, convert_to(repeat('r', 481), 'UTF8'));
UPDATE environments SET service = 's' || :service, name = 'e' || :name, living = 1, hostname = 'e' || :name || '--s' || :service || '.localhost', expires = NULL, head = :number, seq = :seq, tip = md5(:change) || md5(:change), changed = (SELECT number FROM changes WHERE id = :change), identity = convert_to(repeat('i', 123), 'UTF8') WHERE id = :environment;
COMMIT;
SELECT pg_logical_emit_message(true, 'svcctl', '');
\endpipeline
"""  # noqa: E501  # a statement, a line


def figures(folder: Path, server: Server) -> list[Figure]:
    folder.mkdir()
    url = server.database()
    project = scenes.project([f"s{number}" for number in range(1, SERVICES + 1)])
    store = Store.open(url, actor=lambda: "bench")
    scenes.deploy(store, project, {name: {"worker.py": scenes.WORKER} for name in project.services})
    for number in range(ENVIRONMENTS):
        store.apply(commands.Clone(id=commands.new_id(), project=project, source="staging", target=f"e{number}"))
    secret = served.token(store, "bench", "admin")
    store.close()
    simple, same = _yardsticks(folder, server, url)

    def body(writer: int) -> bytes:
        service, name = f"s{1 + writer // ENVIRONMENTS}", f"e{writer % ENVIRONMENTS}"
        return _configure(project, service, name)

    with served.api(folder / "one", url) as one, served.api(folder / "two", url) as other:
        apis = [one, other][:REPLICAS]
        served.posts(apis, secret, WRITERS, body, 1)
        before = [cpu(each.process.pid) for each in apis]
        many = served.posts(apis, secret, WRITERS, body, SECONDS)
        spent = sum(cpu(each.process.pid) - was for each, was in zip(apis, before, strict=True))
        alone = served.posts(apis, secret, WRITERS, lambda _: _configure(project, "s1", "staging"), ALONE)
    store = Store.open(url, actor=lambda: "bench")
    wrong = _lost_or_doubled(store, alone)
    if store.verify().problems:
        raise AssertionError("the store that the API wrote is damaged")
    store.close()
    server.drop(url)
    rate = len(many.answers) / many.took
    cost = spent / len(many.answers) * 1000
    told = f"{rate:.0f}/s by {REPLICAS} replicas, p99 {_p99(many) * 1000:.0f} ms; {cost:.2f} ms CPU of the API a change"
    return [
        Figure(
            "`pgbench -N` / changes through the API, 50 writers, 50 environments",
            simple / rate,
            5,
            detail=f"{told}; pgbench {simple:.0f}/s",
        ),
        Figure(
            "`pgbench -f`, same statements / changes through the API",
            same / rate,
            1 / 0.35,
            detail=f"pgbench {same:.0f}/s",
        ),
        Figure(
            "lost or doubled numbers, 50 writers of one environment",
            wrong,
            0,
            "",
            f"{len(alone.answers) / alone.took:.0f}/s, median {statistics.median(alone.seconds) * 1000:.0f} ms, "
            f"p99 {_p99(alone) * 1000:.0f} ms",
        ),
    ]


def _yardsticks(folder: Path, server: Server, url: str) -> tuple[float, float]:
    plain, like = server.empty_database(), server.database(url)
    pgbench(server, plain, "-i", "-q", "-s", "10")
    run = ("-c", str(WRITERS), "-j", "2", "-T", str(SECONDS))
    simple = pgbench(server, plain, "-N", "-n", *run)
    script = folder / "same.sql"
    script.write_text(_SAME)
    same = pgbench(server, like, "-f", str(script), "-n", "-M", "prepared", *run)
    server.drop(plain)
    server.drop(like)
    return simple, same


def _configure(project: object, service: str, environment: str) -> bytes:
    id = commands.new_id()
    return wire.canonical(
        commands.Configure(id=id, project=project, environment=environment, services=(service,), vars={"N": id})
    )


def _lost_or_doubled(store: Store, sent: served.Sent) -> int:
    """Of the versions that were answered: they must be all that there are, one after the other."""
    changes = [msgspec.json.decode(answer, type=Change) for answer in sent.answers]
    versions = sorted(version.number for change in changes for version in change.versions)
    numbers = [change.number for change in changes]
    head = store.environment("s1", "staging").head
    wanted = list(range(head - len(changes) + 1, head + 1))
    return len(numbers) - len(set(numbers)) + sum(a != b for a, b in zip(versions, wanted, strict=True))


def _p99(sent: served.Sent) -> float:
    return sorted(sent.seconds)[len(sent.seconds) * 99 // 100]

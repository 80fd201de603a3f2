"""More workers for a deployment that is busy, over real processes."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from serving import Server, Site, get, is_alive, until

STAGING = "staging--shop.localhost"

BUSY = """\
import os
import time

from workers import Response


async def fetch(request):
    end = time.process_time() + 0.01
    while time.process_time() < end:
        pass
    return Response(f"{} {{os.getpid()}}")
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.new(tmp_path)


@contextmanager
def asked(server: Server, clients: int = 4) -> Iterator[set[str]]:
    """By so many clients that keep their connections and never pause; who answered."""
    seen: set[str] = set()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with suppress(AssertionError, ConnectionError, TimeoutError), server.client() as client:
                while not over.is_set():
                    answer = client.ask(get(STAGING))
                    if answer.status == 200:
                        seen.add(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for each in threads:
        each.start()
    try:
        yield seen
    finally:
        over.set()
        for each in threads:
            each.join()


def pids(seen: set[str], version: str) -> set[int]:
    return {int(text.split()[1]) for text in seen if text.startswith(version)}


def test_a_busy_deployment_gets_another_worker_and_all_are_replaced_with_its_version(site: Site):
    site.code("shop", BUSY.format("v1"))
    site.done("deploy")
    with site.serving("--workers", "2", "--busy", "10") as server, server.client() as kept:
        first = int(kept.ask(get(STAGING)).text.split()[1])
        with asked(server) as seen:
            both = until(lambda: pids(set(seen), "v1") if len(pids(set(seen), "v1")) == 2 else None)
            os.kill(first, signal.SIGKILL)
            server.says("others go on")
            three = until(lambda: pids(set(seen), "v1") if len(pids(set(seen), "v1")) == 3 else None)
            assert both < three
            site.code("shop", BUSY.format("v2"))
            site.done("deploy")
            until(lambda: len(pids(set(seen), "v2")) == 2)
            until(lambda: not any(map(is_alive, three)))
        assert len(server.workers) == 2

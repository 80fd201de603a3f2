import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from svcctl.cli import running
from svcctl.cli.context import Context
from svcctl.cli.options import HostOption, PortOption
from svcctl.cli.output import Block, Note, Success
from svcctl.model import Model

_BACKLOG = 1024


class Answering(Model):
    url: str


def api(
    context: Context,
    store: Annotated[
        str | None, typer.Option("--store", metavar="STORE", help="A folder, or postgresql://…; as --backend.")
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8700,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="HOST", help="Answer to this name too; repeatable."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option("--trusted-proxy", metavar="NETWORK", help="Believe X-Forwarded-* of these peers; repeatable."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Where to write the first token of an empty store."),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=1, max=256, help="Requests that work at once.")
    ] = 16,
    drain: Annotated[
        float, typer.Option("--drain", metavar="SECONDS", min=0, help="Running requests have so long to end.")
    ] = 30.0,
) -> None:
    """Serve a store to a team over HTTP.

    The first start on an empty store makes a token for an admin and tells it once. It speaks plain http: for this
    machine alone, or behind something that speaks TLS. Any number of them may serve one PostgreSQL store."""
    from svcctl.cli import apiserver  # its imports cost half a second

    if store is not None:
        context.backend_option = store
    context.new_backend()
    sock = running.listener(context, host, port)
    sock.listen(_BACKLOG)  # who reads the announcement may connect at once
    apiserver.first_token(context, token_file and context.path(token_file))
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{sock.getsockname()[1]}"

    def announce() -> None:
        context.show(Answering(url=url), _blocks(url, host))
        sys.stdout.flush()

    api = apiserver.application(context, host, allow_host or (), threads)
    apiserver.Server(api, announce, proxies=trusted_proxy or (), drain=drain, limits=apiserver.limits()).answer(sock)


def _blocks(url: str, host: str) -> Iterator[Block]:
    if not _is_loopback(host):
        yield Note("this is plain http: put TLS in front of it, or tokens travel in clear")
    yield Success(f"serving the store on {url}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

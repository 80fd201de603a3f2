"""HTTP over real sockets: a server of ours, and a client that sees each byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

GET = b"GET %s HTTP/1.1\r\nHost: Shop.example:80\r\nX-A: 1\r\nx-a: 2\r\n\r\n"


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """The port of uvicorn with this application. What its requests raised is logged by nobody."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Status, headers and body of one answer with a length or in chunks."""
        self.writer.write(request)
        status, headers = await self.head()
        return status, headers, b"" if request.startswith(b"HEAD") else await self.body(headers)

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        return int(first.split()[1]), [each for each in headers if each[0] not in {b"date", b"server"}]

    async def body(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if length := dict(headers).get(b"content-length"):
            return await self.reader.readexactly(int(length))
        if dict(headers).get(b"transfer-encoding") != b"chunked":
            return b""
        found = b""
        while chunk := await self.chunk():
            found += chunk
        return found

    async def chunk(self) -> bytes:
        """Empty for the last one; IncompleteReadError where the connection ended before."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()

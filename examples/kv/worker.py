"""Counts visits by page, and forgets a page that nobody has visited for a day."""

from urllib.parse import urlsplit

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = urlsplit(request.url).path
        if path == "/_all":
            return Response.json(await self.all())
        if request.method == "DELETE":
            await self.env.VISITS.delete(path)
            return Response(None, status=204)
        count = int(await self.env.VISITS.get(path) or 0) + 1
        await self.env.VISITS.put(path, str(count), expirationTtl=86_400, metadata={"count": count})
        return Response(f"visit {count} of {path}\n")

    async def all(self):
        """By page. The counts stand in the keys' metadata, so a page of the list is one question."""
        found, cursor = {}, None
        while True:
            page = await self.env.VISITS.list(cursor=cursor)
            found |= {key.name: key.metadata["count"] for key in page.keys}
            if page.list_complete:
                return found
            cursor = page.cursor

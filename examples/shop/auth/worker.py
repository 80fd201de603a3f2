from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        token = request.headers.get("Authorization")
        if token is None:
            return Response("Who are you?", status=401)
        return Response("ok")

    async def check(self, token):
        """Called by other services as `await env.AUTH.check(token)`."""
        return token.startswith("Bearer ")

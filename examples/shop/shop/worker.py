from common.pages import page
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        answer = await self.env.AUTH.fetch(request.clone())
        if answer.status != 200:
            return answer
        return Response(page(self.env.GREETING), headers={"Content-Type": "text/html"})

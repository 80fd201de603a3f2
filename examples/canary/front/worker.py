"""One request in a hundred tries the canary. What fails there is asked of the shop again, if asking twice is safe."""

import random

from workers import WorkerEntrypoint

SAFE_TO_REPEAT = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if random.random() >= self.env.SHARE:
            return await self.env.SHOP.fetch(request)
        again = request.clone() if request.method in SAFE_TO_REPEAT else None
        try:
            response = await self.env.CANARY.fetch(request)
        except Exception as error:
            print(f"the canary failed: {error!r}")
            if again is None:
                raise
        else:
            if again is None or response.status < 500:
                return response
            print(f"the canary answered {response.status}")
        return await self.env.SHOP.fetch(again)

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST


async def book(request):
    guests = request.scope["env"].GUESTS
    page = await guests.list(limit=100)
    signed = [{"at": key.name, **key.metadata} for key in reversed(page.keys)]
    return render(request, "book.html", {"signed": signed})


@csrf_exempt
@require_POST
async def sign(request):
    name = request.POST.get("name", "").strip()[:100]
    if not name:
        return HttpResponse("a name is needed", status=400, content_type="text/plain")
    await request.scope["env"].GUESTS.put(timezone.now().isoformat(), name, metadata={"name": name})
    return HttpResponseRedirect("/")

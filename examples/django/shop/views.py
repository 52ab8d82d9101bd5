"""What the browser asks for."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from .models import Order
from .tasks import confirm


@csrf_exempt
def order(request: HttpRequest) -> JsonResponse:
    """Take an order, and have it confirmed; neither is there if this raises."""
    new = Order.objects.create(item=request.POST["item"])
    job = confirm.delay(new.pk)
    if new.item == "nothing":
        raise ValueError("an order needs an item")
    return JsonResponse({"order": new.pk, "job": job.id})

"""What is done after the answer."""

from __future__ import annotations

from celery import shared_task

from .models import Order


@shared_task(max_attempts=5)
def confirm(order_id: int) -> str:
    """The order is there: the job is, and both came with one commit."""
    order = Order.objects.get(pk=order_id)
    order.is_confirmed = True
    order.save()
    return f"{order.item} is on its way"

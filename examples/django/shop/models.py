"""What the shop keeps."""

from __future__ import annotations

from django.db import models


class Order(models.Model):  # type: ignore[misc]
    """Somebody wants something."""

    item = models.TextField()
    is_confirmed = models.BooleanField(default=False)

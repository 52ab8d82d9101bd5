"""Where what is."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [path("order", views.order), path("admin/", admin.site.urls)]

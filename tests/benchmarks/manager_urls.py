"""The project's URLs, and below /stock/ an admin whose run list is Django's own.

The list has the columns of the Run Manager.
"""

from django.contrib import admin
from django.urls import path

from runs.models import Run
from statemanager.urls import urlpatterns as project


class StockRuns(admin.ModelAdmin):
    list_display = (
        "run_id",
        "name",
        "status",
        "progress",
        "created_at",
        "username",
        "workspace",
        "graph",
    )
    list_filter = ("status",)
    list_select_related = ("graph__namespace",)
    search_fields = ("run_id", "name")
    list_per_page = 50
    ordering = ("-created_at", "-id")

    def lookup_allowed(self, lookup: str, value: str, request: object = None) -> bool:
        return True


stock = admin.AdminSite("stock")
stock.register(Run, StockRuns)
urlpatterns = [path("stock/", stock.urls), *project]

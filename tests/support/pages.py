"""Addresses and texts of the Run Manager's pages."""

import re

from django.http import HttpResponse

LIST = "/admin/run-manager/"
HX = {"HX-Request": "true"}


def text(response: HttpResponse) -> str:
    """The HTML of a page, without line breaks beside tags; other line breaks become a space."""
    html = response.content.decode()
    html = re.sub(r"(?<=>)\s*\n\s*|\s*\n\s*(?=<)", "", html)
    return re.sub(r"\s*\n\s*", " ", html)


def page_of(run, tab=""):
    """The address of a run's page, or of one of its tabs."""
    return f"{LIST}run/{run.pk}/{f'{tab}/' if tab else ''}"

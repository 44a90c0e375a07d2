"""Addresses and texts of the Run Manager's pages."""

import re

from django.http import HttpResponse

LIST = "/admin/run-manager/"
HX = {"HX-Request": "true"}


def text(response: HttpResponse) -> str:
    """The HTML of a page without the line breaks between tags; other line breaks are one space."""
    html = response.content.decode()
    html = re.sub(r"(?<=>)\s*\n\s*|\s*\n\s*(?=<)", "", html)
    return re.sub(r"\s*\n\s*", " ", html)


def page_of(run, tab=""):
    return f"{LIST}run/{run.pk}/{f'{tab}/' if tab else ''}"

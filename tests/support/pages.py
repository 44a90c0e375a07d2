"""Addresses and texts of the Run Manager's pages."""

LIST = "/admin/run-manager/"
HX = {"HX-Request": "true"}


def page_of(run, tab=""):
    return f"{LIST}run/{run.pk}/{f'{tab}/' if tab else ''}"

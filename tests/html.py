"""Pages as text that doesn't depend on how the templates are indented."""

import re

from django.http import HttpResponse


def text(response: HttpResponse) -> str:
    """The HTML of a page without the line breaks between tags; other line breaks are one space."""
    html = response.content.decode()
    html = re.sub(r"(?<=>)\s*\n\s*|\s*\n\s*(?=<)", "", html)
    return re.sub(r"\s*\n\s*", " ", html)

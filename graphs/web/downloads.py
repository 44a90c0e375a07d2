"""The headers of downloads."""

from django.utils.http import content_disposition_header

from graphs.definition import names


def attachment(name: str) -> dict[str, str]:
    """The headers of a file that a browser saves under this name, made safe for every system."""
    header = content_disposition_header(True, names.file_name(name))
    return {"Content-Disposition": header or "attachment"}

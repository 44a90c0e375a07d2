"""What the pages' forms share."""

from graphs.definition import errors


def labels_of(text: str) -> dict[str, str]:
    """Labels written as `key=value`, one a word or a line. Raises Malformed for one without a value."""
    found = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise errors.Malformed(f"A label is key=value; {word[:60]!r} is not.")
        found[key] = value
    return found

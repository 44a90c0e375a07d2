"""Text from bytes. A byte order mark says more than anybody who sends a file knows."""

import codecs

# The longer marks come first, because some begin with a shorter one.
_BY_MARK = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def by_mark(beginning: bytes) -> str | None:
    """The encoding that a byte order mark gives away; None without one."""
    return next((name for mark, name in _BY_MARK.items() if beginning.startswith(mark)), None)


def is_text(data: bytes, charset: str = "utf-8") -> bool:
    """Whether `as_text` replaces nothing."""
    try:
        data.decode(by_mark(data) or charset)
    except UnicodeDecodeError:
        return False
    except LookupError:
        return is_text(data)
    return True


def as_text(data: bytes, charset: str = "utf-8") -> str:
    """Bytes of others as text without the mark. What is not in the charset is replaced.

    An unknown charset is taken for UTF-8.
    """
    try:
        text = data.decode(by_mark(data) or charset, "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")

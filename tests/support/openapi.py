"""The API's schema as `docs/openapi.yml` has it."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent.parent.parent / "docs" / "openapi.yml"
# libyaml is twenty times as fast, and modules read the schema while tests are collected.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def document() -> dict[str, Any]:
    """The schema. It is shared: nobody may change it."""
    return dict(yaml.load(FILE.read_text(), LOADER))

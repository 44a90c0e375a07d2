"""Which inputs a search may name.

Only declared inputs can be searched: without an index each search would read the inputs of all
runs. While the runs from before a declaration are being indexed, nothing is found by it: a negated
search would take each of them for a run without the value, and bulk operations delete what a
search finds.
"""

from collections.abc import Collection

from graphs.auth.callers import RIGHT_LABELS, Caller
from graphs.models import IndexedInput

DECLARE = "Add it to `indexed_inputs` in the settings of the graph, and publish the graph."


def refusal(paths: Collection[str], caller: Caller) -> str:
    """Why the caller can't search for the inputs at these paths; "" if it can."""
    if not caller.may("payloads"):
        return f"input: is only for those who may {RIGHT_LABELS['payloads']}."
    declared = IndexedInput.objects.declared().searchable_by(caller).filter(path__in=paths)
    rows = list(declared.select_related("graph__namespace"))
    known = {row.path for row in rows}
    for path in paths:
        if path not in known:
            return f"No graph declares the input {path}, so it is not indexed. {DECLARE}"
    for row in rows:
        if row.indexed_from != 0:
            return (
                f"The input {row.path} was declared lately, and the earlier runs of {row.graph} "
                "are still being indexed. Search for it again in a moment."
            )
    return ""

"""The forms of FlowView as changes of the draft."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from graphs.auth.callers import Caller
from graphs.definition import edits, errors, input_suggestions, redaction
from graphs.definition.edits import Edit
from graphs.definition.names import parse_id
from graphs.definition.types import Definition, JsonObject
from graphs.editor.checks import kinds_of
from graphs.editor.flow import shown
from graphs.editor.inspector import NodeForm
from graphs.editor.palette import is_local, may_use
from graphs.editor.pasted import parse_definition
from graphs.editor.settings_form import SettingsForm
from graphs.models import Graph, RegisteredNode
from graphs.services import drafts

FormData = Mapping[str, str]
MAX_COORDINATE = 1_000_000


class InvalidForm(Exception):
    """A field of the form has an invalid value, so nothing is changed."""

    def __init__(self, form: NodeForm | SettingsForm) -> None:
        self.form = form


class EditForm:
    """What one form asks for: one method per value of its `op` field.

    Each method takes a definition and returns the edit of it. They may raise Malformed and
    InvalidForm.
    """

    def __init__(self, data: FormData, graph: Graph, caller: Caller) -> None:
        self.data, self.graph, self.caller = data, graph, caller

    @property
    def node(self) -> str:
        return self.data.get("node", "")

    @property
    def ends(self) -> tuple[str, str]:
        """The start and the end of the form's edge."""
        return self.data.get("start", ""), self.data.get("end", "")

    @property
    def condition_text(self) -> str:
        return self.data.get("when", "").strip()

    def add(self, definition: Definition) -> Edit:
        """Add a node of the chosen kind after the chosen node."""
        pk = parse_id(self.data.get("kind", "")) or 0
        kind = RegisteredNode.objects.select_related("namespace").filter(pk=pk).first()
        if kind is None or not may_use(kind, self.graph, self.caller):
            raise errors.Malformed("This node is no longer registered.")
        namespace = "" if is_local(kind, self.graph) else kind.namespace.name
        after = self.node if _has_node(definition, self.node) else ""
        return edits.add(definition, kind.name, namespace, after, self._wire)

    def _wire(self, definition: Definition, start: str, end: str) -> JsonObject:
        """The inputs that a new edge suggests."""
        kinds = kinds_of(self.graph, definition, self.caller)
        return input_suggestions.wire(definition, start, end, kinds)

    def connect(self, definition: Definition) -> Edit:
        return edits.connect(definition, *self.ends, self.condition_text, self._wire)

    def disconnect(self, definition: Definition) -> Edit:
        return edits.disconnect(definition, *self.ends)

    def condition(self, definition: Definition) -> Edit:
        return edits.condition(definition, *self.ends, self.condition_text)

    def duplicate(self, definition: Definition) -> Edit:
        return edits.duplicate(definition, self.node)

    def delete(self, definition: Definition) -> Edit:
        return edits.delete(definition, self.node)

    def move(self, definition: Definition) -> Edit:
        try:
            x, y = (round(float(self.data[name])) for name in ("x", "y"))
        except (KeyError, ValueError, OverflowError):
            raise errors.Malformed("A position is two numbers, x and y.") from None
        if max(abs(x), abs(y)) > MAX_COORDINATE:
            raise errors.Malformed(f"x and y must be between ±{MAX_COORDINATE:,}.")
        return edits.move(definition, self.node, {"x": x, "y": y})

    def arrange(self, definition: Definition) -> Edit:
        return edits.arrange(definition)

    def change(self, definition: Definition) -> Edit:
        """Change the chosen node as the inspector's form says."""
        kinds = kinds_of(self.graph, definition, self.caller)
        form = NodeForm(self._shown(definition), self.node, kinds, self.data)
        if not form.is_valid():
            raise InvalidForm(form)
        new_id = form.cleaned_data["id"]
        if new_id != self.node and _has_node(definition, new_id):
            form.add_error("id", "There is already a node with this id.")
            raise InvalidForm(form)
        return edits.change(definition, self.node, form.node())

    def settings(self, definition: Definition) -> Edit:
        form = SettingsForm(self._shown(definition), self.data)
        if not form.is_valid():
            raise InvalidForm(form)
        return Edit(form.definition(), "Change the graph's settings")

    def _shown(self, definition: Definition) -> Definition:
        """The definition as the form showed it."""
        return shown(self.graph, definition, self.caller)

    def replace(self, definition: Definition) -> Edit:
        """Replace the draft by the pasted JSON."""
        return Edit(parse_definition(self.data.get("json", ""), definition), "Replace with JSON")

    def paste(self, definition: Definition) -> Edit:
        """Add the pasted nodes and edges to the draft."""
        return edits.paste(definition, parse_definition(self.data.get("json", "")))


OPS: dict[str, Callable[[EditForm, Definition], Edit]] = {
    "add": EditForm.add,
    "connect": EditForm.connect,
    "disconnect": EditForm.disconnect,
    "condition": EditForm.condition,
    "duplicate": EditForm.duplicate,
    "delete": EditForm.delete,
    "move": EditForm.move,
    "arrange": EditForm.arrange,
    "change": EditForm.change,
    "settings": EditForm.settings,
    "replace": EditForm.replace,
    "paste": EditForm.paste,
}


def change_for(data: FormData, graph: Graph, caller: Caller) -> drafts.Change:
    """The change that the form asks for. Raises Malformed if there is no such change.

    Dots that come back mean the secrets that they stood for.
    """
    op = data.get("op") or ("add" if data.get("kind") else "")
    if op not in OPS:
        raise errors.Malformed(f"There is no change {op[:40]!r}. Use one of {', '.join(OPS)}.")
    form = EditForm(data, graph, caller)

    def change(definition: Definition) -> Edit:
        edit = OPS[op](form, definition)
        restored = redaction.definition_restored(edit.definition, definition, edit.renamed)
        return replace(edit, definition=restored)

    return change


def _has_node(definition: Definition, name: str) -> bool:
    return any(node["id"] == name for node in definition["nodes"])

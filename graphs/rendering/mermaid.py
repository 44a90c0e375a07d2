"""A graph as Mermaid text (mermaid.js.org, flowchart syntax). Pure."""

from graphs.definition import plan
from graphs.definition.types import Definition, EdgeDefinition

_SYNTAX = '"#;<>&|`\n\r'  # characters that Mermaid or HTML would read as syntax


def mermaid(definition: Definition) -> str:
    """One line per node and per edge. Edges for `unites` are dotted.

    Nodes are numbered, because ids of Mermaid may not contain all characters that ours may.
    """
    numbers = {node["id"]: f"n{at}" for at, node in enumerate(definition["nodes"])}
    lines = ["flowchart LR"]
    for node in definition["nodes"]:
        title = _text(node.get("label") or node["id"])
        lines.append(
            f'    {numbers[node["id"]]}["{title}<br><small>{_text(node["kind"])}</small>"]'
        )

    drawn = set()
    for edge in definition["edges"]:
        start, end = edge["from"], edge["to"]
        if start in numbers and end in numbers:
            lines.append(f"    {numbers[start]} -->{_condition(edge)} {numbers[end]}")
            drawn.add((start, end))

    for name, united in plan.unites_of(definition).items():
        if united in numbers and (united, name) not in drawn:
            lines.append(f'    {numbers[united]} -.->|"unites"| {numbers[name]}')
    return "\n".join([*lines, ""])


def _condition(edge: EdgeDefinition) -> str:
    when = (edge.get("data") or {}).get("when")
    return f'|"{_text(when)}"|' if when else ""


def _text(text: str) -> str:
    """Text for use inside quotes: characters that are syntax become entities."""
    return "".join(f"#{ord(letter)};" if letter in _SYNTAX else letter for letter in text)

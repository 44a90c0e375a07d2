"""A graph as Mermaid text (mermaid.js.org, flowchart syntax), for documents that draw it themselves. Pure."""

from collections.abc import Mapping
from typing import Any

from graphs.definition import plan


def mermaid(definition: Mapping[str, Any]) -> str:
    """One line for each node and each edge. Ids are numbered, since Mermaid's have an alphabet of their own; unites are dotted."""
    numbers = {node["id"]: f"n{at}" for at, node in enumerate(definition["nodes"])}
    lines = ["flowchart LR"]
    for node in definition["nodes"]:
        title = node.get("label") or node["id"]
        lines.append(
            f'    {numbers[node["id"]]}["{_text(title)}<br><small>{_text(node["kind"])}</small>"]'
        )
    drawn = set()
    for edge in definition["edges"]:
        if edge["from"] in numbers and edge["to"] in numbers:
            when = (edge.get("data") or {}).get("when")
            lines.append(
                f"    {numbers[edge['from']]} -->{f'|{chr(34)}{_text(when)}{chr(34)}|' if when else ''} {numbers[edge['to']]}"
            )
            drawn.add((edge["from"], edge["to"]))
    for name, united in plan.unites_of(definition).items():
        if united in numbers and (united, name) not in drawn:
            lines.append(f'    {numbers[united]} -.->|"unites"| {numbers[name]}')
    return "\n".join([*lines, ""])


def _text(text: str) -> str:
    """Text inside quotes: what Mermaid or HTML would read as syntax becomes an entity."""
    return "".join(f"#{ord(letter)};" if letter in '"#;<>&|`\n\r' else letter for letter in text)

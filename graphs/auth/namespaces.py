"""Namespaces come into being when something is first put into them."""

from django.db import transaction

from graphs.auth import acts
from graphs.auth.callers import Caller
from graphs.definition import names
from graphs.models import Namespace


@transaction.atomic
def ensure_namespace(name: str, caller: Caller) -> Namespace:
    """The namespace with this name, which is made if necessary. Raises Malformed for a bad name."""
    checked_name = names.checked("namespace", name)
    namespace, created = Namespace.objects.get_or_create(name=checked_name)
    if created:
        acts.record(caller, "create_namespace", namespace.pk, namespace.name)
    return namespace

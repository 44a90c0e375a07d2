"""Saving and deleting the views of the run list."""

from django.db import IntegrityError, transaction

from graphs.auth.callers import Caller
from graphs.definition import errors, names
from graphs.models import Namespace
from runs.models import AuditEntry, SavedView

MAX_VIEWS = 100  # of one user


def save(
    caller: Caller, name: str, query: str, shared: bool = False, namespace: str = ""
) -> SavedView:
    """Save a query under a name, replacing the caller's view of that name.

    A shared view is for those who see the namespace of this name. It may be left out by callers
    that see a single namespace, and by those that see all, who then share with each other.

    Raises Forbidden for API keys, NotFound for a namespace that the caller doesn't see, Malformed
    if the namespace must be named or the caller has too many views, and Conflict if another request
    saves the view at this moment.
    """
    if caller.user is None:
        raise errors.Forbidden("Views belong to users; an API key can't save one.")
    names.checked("view", name)
    own = SavedView.objects.filter(owner=caller.user)
    if not own.filter(name=name).exists() and own.count() >= MAX_VIEWS:
        raise errors.Malformed(f"You can have {MAX_VIEWS} views. Delete one first.")
    place = _namespace(caller, namespace) if shared else None
    values = {"query": query.lstrip("?"), "shared": shared, "namespace": place}
    try:
        with transaction.atomic():
            view: SavedView
            view, _ = SavedView.objects.update_or_create(
                owner=caller.user, name=name, defaults=values
            )
            _record(caller, "save_view", view)
    except IntegrityError:
        raise errors.Conflict("Another request has just saved this view.") from None
    return view


def _namespace(caller: Caller, name: str) -> Namespace | None:
    """Where a view is shared. None means: with those who see all namespaces."""
    if name:
        named = Namespace.objects.filter(name=name.replace("\x00", "")).first()
        if named is None or not caller.sees(named.pk):
            raise errors.NotFound(f"There is no namespace {name[:100]!r}.")
        return named
    if caller.namespaces is None:
        return None
    if len(caller.namespaces) != 1:
        raise errors.Malformed("Name the namespace in which the view is shared.")
    return Namespace.objects.get(pk=next(iter(caller.namespaces)))


def remove(caller: Caller, pk: int) -> None:
    """Delete a view of the caller's own, or a shared one where the caller may change runs.

    Raises NotFound for other views.
    """
    with transaction.atomic():
        views = SavedView.objects.changeable_by(caller).select_for_update(of=("self",))
        view = views.filter(pk=pk).first()
        if view is None:
            raise errors.NotFound(f"There is no view {pk} that you may delete.")
        _record(caller, "delete_view", view)
        view.delete()


def _record(caller: Caller, action: str, view: SavedView) -> None:
    detail = f"{view.name}, shared" if view.shared else view.name
    AuditEntry.objects.record_global(caller, action, detail, view.namespace_id)

"""Saving and deleting the views of the run list."""

from django.contrib.auth.models import Group
from django.core.exceptions import SuspiciousOperation
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import QueryDict

from graphs.auth.callers import Caller
from graphs.definition import errors, names
from graphs.models import Namespace
from runs.models import AuditEntry, ColumnChoice, Run, SavedView
from runs.queries.filters import OTHER_PARAMETERS, InvalidFilters, RunFilters

MAX_VIEWS = 100  # of one user
MAX_QUERY = 4000  # characters


def save(
    caller: Caller,
    name: str,
    query: str,
    shared: bool = False,
    namespace: str = "",
    group: str = "",
) -> SavedView:
    """Save a query under a name, replacing the caller's view of that name.

    A shared view is for the members of the group of this name, which must be one of the caller's,
    or for those who see the namespace of this name. The namespace may be left out by callers
    that see a single namespace, and by those that see all, who then share with each other.

    Raises Forbidden for API keys, NotFound for a namespace that the caller doesn't see or a group
    that isn't the caller's, Malformed if the namespace must be named, the caller has too many views
    or the list can't read the query, and Conflict if another request saves the view at this moment.
    """
    if caller.user is None:
        raise errors.Forbidden("Views belong to users; an API key can't save one.")
    names.checked("view", name)
    query = query.lstrip("?")
    _check_query(query, caller)
    shared = shared or bool(group)
    own = SavedView.objects.filter(owner=caller.user)
    if not own.filter(name=name).exists() and own.count() >= MAX_VIEWS:
        raise errors.Malformed(f"You can have {MAX_VIEWS} views. Delete one first.")
    shared_with = _group(caller, group) if shared and group else None
    place = _namespace(caller, namespace) if shared and not shared_with else None
    values = {
        "query": query,
        "shared": shared,
        "namespace": place,
        "group": shared_with,
    }
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


def _check_query(query: str, caller: Caller) -> None:
    """Raises Malformed for a query that is too long, or that the list would not follow."""
    if len(query) > MAX_QUERY:
        raise errors.Malformed(f"The query of a view has at most {MAX_QUERY:,} characters.")
    try:
        filters = RunFilters.of_query(QueryDict(query), OTHER_PARAMETERS)
        filters.apply(Run.objects.none(), caller)
    except InvalidFilters as error:
        raise errors.Malformed(f"The list can't be filtered like this. {error}") from None
    except SuspiciousOperation:
        raise errors.Malformed("The query of a view has too many parameters.") from None


def groups_of(caller: Caller) -> QuerySet[Group]:
    """The groups with which the caller may share views."""
    return caller.user.groups.order_by("name") if caller.user else Group.objects.none()


def _group(caller: Caller, name: str) -> Group:
    group = groups_of(caller).filter(name=name.replace("\x00", "")).first()
    if group is None:
        raise errors.NotFound(f"You are in no group {name[:100]!r}.")
    return group


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


def default_of(caller: Caller) -> SavedView | None:
    """The view with which the list opens for the caller, if the caller still sees it."""
    if caller.user is None:
        return None
    chosen = ColumnChoice.objects.filter(user=caller.user, view__isnull=False).values("view")
    view: SavedView | None = SavedView.objects.visible_to(caller).filter(pk__in=chosen).first()
    return view


def choose_default(caller: Caller, pk: int, chosen: bool) -> None:
    """Let the list open with this view for the caller, or no longer.

    Raises Forbidden for API keys, and NotFound for a view that the caller doesn't see.
    """
    if caller.user is None:
        raise errors.Forbidden("A default view belongs to a user; an API key has none.")
    view = SavedView.objects.visible_to(caller).filter(pk=pk).first()
    if view is None:
        raise errors.NotFound(f"There is no view {pk} that you see.")
    if chosen:
        ColumnChoice.objects.update_or_create(user=caller.user, defaults={"view": view})
    else:
        ColumnChoice.objects.filter(user=caller.user, view=view).update(view=None)


def _record(caller: Caller, action: str, view: SavedView) -> None:
    detail = f"{view.name}, shared" if view.shared else view.name
    AuditEntry.objects.record_global(caller, action, detail, view.namespace_id)

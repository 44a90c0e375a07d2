"""Choosing one of any number of things: a menu while there are few, else a text with suggestions.

A page holds at most MAX_CHOICES of them. With more, the user types a name; htmx replaces the
suggestions with those that match it, and without JavaScript the name is typed in full.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from graphs.definition.types import JsonObject

MAX_CHOICES = 100
TYPED = "-name"  # ends the name of the field in which a name is typed


class TypedName(str):
    """A name that was typed, not a key that was chosen from a menu."""


def named(rows: QuerySet[Any], text: str, columns: Sequence[str]) -> QuerySet[Any]:
    """The rows with this name: `name`, or `namespace/name` if there are two columns."""
    parts = text.strip().split("/", len(columns) - 1)
    if len(parts) != len(columns):
        return rows.none()
    return rows.filter(**dict(zip(columns, parts, strict=True)))


def matching(rows: QuerySet[Any], text: str, columns: Sequence[str]) -> QuerySet[Any]:
    """The rows in whose name each part of the text occurs: `na` or `namesp/na`."""
    *namespace, name = text.strip().split("/", len(columns) - 1)
    condition = Q(**{f"{columns[-1]}__icontains": name})
    if namespace:
        condition &= Q(**{f"{columns[0]}__icontains": namespace[0]})
    elif len(columns) > 1:
        condition |= Q(**{f"{columns[0]}__icontains": name})
    return rows.filter(condition)


def some(rows: QuerySet[Any], columns: Sequence[str], limit: int) -> list[tuple[object, str]]:
    """The keys and the names of the first rows, without reading anything else of them."""
    values = rows.order_by(*columns).values_list("pk", *columns)[:limit]
    return [(pk, "/".join(names)) for pk, *names in values]


def suggestions(
    name: str, names: Iterable[str], kind: str, text: str = "", params: str = "", **context: object
) -> SafeString:
    """The field of a name with its suggestions. `kind` and `params` are where htmx gets others."""
    url = f"{reverse('run_manager_choices', args=[kind])}?field={name}{params}"
    return render_to_string(
        "run_manager/_picker.html",
        {"name": name, "names": list(names)[:MAX_CHOICES], "text": text, "url": url, **context},
    )


class Picker(forms.Select):
    """The widget of a `PickerField`."""

    def use_required_attribute(self, initial: object) -> bool:
        field = self.choices.field  # type: ignore[attr-defined]
        return field.empty_label is not None and not self.is_hidden

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> object:
        typed = data.get(f"{name}{TYPED}")
        return TypedName(typed) if typed else super().value_from_datadict(data, files, name)

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return name not in data and f"{name}{TYPED}" not in data

    def render(
        self, name: str, value: Any, attrs: JsonObject | None = None, renderer: Any = None
    ) -> SafeString:
        field = self.choices.field  # type: ignore[attr-defined]
        choices = some(field.queryset, field.columns, MAX_CHOICES + 1)
        if len(choices) <= MAX_CHOICES:
            menu = forms.Select(choices=[*field.no_choice, *choices])
            menu.is_required = self.is_required
            return menu.render(name, value, {**self.attrs, **(attrs or {})}, renderer)
        return suggestions(
            f"{name}{TYPED}",
            [choice for _, choice in choices],
            field.kind,
            field.text_of(value),
            field.params,
            id=(attrs or {}).get("id", f"id_{name}"),
            required=field.required,
            label=self.attrs.get("aria-label", ""),
        )


class PickerField(forms.ModelChoiceField):
    """One row of a queryset, chosen by its key or typed by its name.

    `columns` are what its name consists of, `kind` names the suggestions of
    `runs.manager.choices`, and `params` is added to their query.
    """

    widget = Picker

    def __init__(
        self, queryset: QuerySet[Any], *, columns: Sequence[str], kind: str, **options: Any
    ) -> None:
        self.columns, self.kind, self.params = columns, kind, ""
        super().__init__(queryset, **options)

    @property
    def no_choice(self) -> list[tuple[str, str]]:
        return [("", str(self.empty_label))] if self.empty_label is not None else []

    def to_python(self, value: Any) -> Model | None:
        if not isinstance(value, TypedName):
            return super().to_python(value)
        row = named(self._rows, value, self.columns).first()
        if row is None:
            raise ValidationError(self.error_messages["invalid_choice"], code="invalid_choice")
        return row

    def text_of(self, value: Any) -> str:
        """The name of a chosen row; a name that was typed as it is."""
        if isinstance(value, TypedName) or value in self.empty_values:
            return str(value or "")
        rows = self._rows.filter(pk=value) if str(value).isdigit() else self._rows.none()
        return next((name for _, name in some(rows, self.columns, 1)), "")

    @property
    def _rows(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.queryset  # type: ignore[assignment]
        return rows

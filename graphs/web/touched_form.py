"""Forms that change only what the user changed."""

from functools import cached_property

from django import forms

from graphs.definition.types import Json, JsonObject
from graphs.web.json_fields import plain_newlines


class TouchedForm(forms.Form):
    """A form that knows which fields came back as they were shown. Those are untouched."""

    @cached_property
    def changed_data(self) -> list[str]:
        return [name for name in self.fields if self.touched(name)]

    def forgiven(self, name: str) -> bool:
        """Whether the field may hold what it would not accept, as long as it is untouched."""
        return False

    def touched(self, *names: str) -> bool:
        """Whether any of these fields was changed. Fields that the form lacks don't count."""
        return any(name in self.fields and self._sent(name) != self._shown(name) for name in names)

    def full_clean(self) -> None:
        """Validate, and drop the errors of untouched fields that are forgiven."""
        super().full_clean()
        # `self.errors` would call this method again.
        found = self._errors or {}  # type: ignore[attr-defined]
        for name in list(found):
            if name in self.fields and self.forgiven(name) and not self.touched(name):
                del found[name]

    def _sent(self, name: str) -> str:
        return plain_newlines(str(self.data.get(self.add_prefix(name), "")))

    def _shown(self, name: str) -> str:
        """What a browser sends for the field if nobody touched it."""
        field = self.fields[name]
        value = field.prepare_value(self.get_initial_for_field(field, name))
        if isinstance(field.widget, forms.CheckboxInput):
            return "on" if field.widget.check_test(value) else ""
        if isinstance(field, forms.ChoiceField):
            values = _values_of(field)
            if str(value) in values:
                return str(value)
            return "" if isinstance(field.widget, forms.RadioSelect) else values[0]
        if value is None:
            return ""
        return plain_newlines(str(field.widget.format_value(value) or ""))


class MergedForm(TouchedForm):
    """A form whose untouched fields leave their values in a definition alone."""

    def forgiven(self, name: str) -> bool:
        return True


def _values_of(field: forms.ChoiceField) -> list[str]:
    """The values of a field's choices, including those in groups."""
    values: list[str] = []
    for value, label in field.widget.choices:
        if isinstance(label, list | tuple):
            values += [str(inner) for inner, _ in label]
        else:
            values.append(str(value))
    return values


def set_or_remove(target: JsonObject, name: str, value: Json) -> None:
    """Set a member, or remove it if the value is None, "" or {}."""
    if value is None or value == "" or value == {}:
        target.pop(name, None)
    else:
        target[name] = value

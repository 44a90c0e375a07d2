"""A form that changes only what the user changed."""

from django import forms

from graphs.definition.types import Json, JsonObject


class MergedForm(forms.Form):
    """A form whose untouched fields leave their values alone.

    A field that comes back as it was shown is untouched. Its value in the definition stays as it
    is, even if the field would not accept it.
    """

    def touched(self, *names: str) -> bool:
        """Whether any of these fields was changed. Fields that the form lacks don't count."""
        return any(name in self.fields and self._sent(name) != self._shown(name) for name in names)

    def full_clean(self) -> None:
        """Validate, and drop the errors of untouched fields."""
        super().full_clean()
        # `self.errors` would call this method again.
        found = self._errors or {}  # type: ignore[attr-defined]
        for name in list(found):
            if name in self.fields and not self.touched(name):
                del found[name]

    def _sent(self, name: str) -> str:
        return _with_plain_newlines(str(self.data.get(name, "")))

    def _shown(self, name: str) -> str:
        """What a browser sends for the field if nobody touched it."""
        field = self.fields[name]
        value = field.prepare_value(self.get_initial_for_field(field, name))
        if isinstance(field.widget, forms.CheckboxInput):
            return "on" if field.widget.check_test(value) else ""
        if isinstance(field, forms.ChoiceField):
            values = _values_of(field)
            return str(value) if str(value) in values else values[0]
        if value is None:
            return ""
        return _with_plain_newlines(str(field.widget.format_value(value) or ""))


def _values_of(field: forms.ChoiceField) -> list[str]:
    """The values of a field's choices, including those in groups."""
    values: list[str] = []
    for value, label in field.widget.choices:
        if isinstance(label, list | tuple):
            values += [str(inner) for inner, _ in label]
        else:
            values.append(str(value))
    return values


def _with_plain_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def set_or_remove(target: JsonObject, name: str, value: Json) -> None:
    """Set a member, or remove it if the value is None, "" or {}."""
    if value is None or value == "" or value == {}:
        target.pop(name, None)
    else:
        target[name] = value

"""A form that changes what somebody changed, and nothing else."""

from typing import Any

from django import forms


class KeepingForm(forms.Form):
    """A field that comes back as it was shown is untouched: what it stands for stays as it is, even if it doesn't fit."""

    def touched(self, *names: str) -> bool:
        """Whether any of these fields came back other than it was shown. Those that weren't shown don't count."""
        return any(name in self.fields and self._sent(name) != self._shown(name) for name in names)

    def full_clean(self) -> None:
        super().full_clean()
        found: dict[str, Any] = self._errors or {}  # type: ignore[attr-defined]  # what `errors` would ask this method for
        for name in [name for name in found if name in self.fields and not self.touched(name)]:
            del found[name]

    def _sent(self, name: str) -> str:
        return _one_kind_of_newline(str(self.data.get(name, "")))

    def _shown(self, name: str) -> str:
        """What a browser sends back of a field that nobody touched."""
        field = self.fields[name]
        value = field.prepare_value(self.get_initial_for_field(field, name))
        if isinstance(field.widget, forms.CheckboxInput):
            return "on" if field.widget.check_test(value) else ""
        if isinstance(field, forms.ChoiceField):
            values = [str(each) for each, _ in _flat(field.choices)]
            return str(value) if str(value) in values else values[0]
        return _one_kind_of_newline(
            str(field.widget.format_value(value) or "") if value is not None else ""
        )


def _flat(choices: Any) -> list[tuple[Any, Any]]:
    return [
        pair
        for value, label in choices
        for pair in (label if isinstance(label, list | tuple) else [(value, label)])
    ]


def _one_kind_of_newline(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def put(target: dict[str, Any], name: str, value: Any) -> None:
    """Set a member, or take it away when there is nothing to set."""
    if value is None or value == "" or value == {}:
        target.pop(name, None)
    else:
        target[name] = value

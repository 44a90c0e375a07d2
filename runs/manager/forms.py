"""What the pages' forms share."""

import json
from typing import Any

from django import forms

from graphs import errors


class InputsForm(forms.Form):
    """The inputs of a run as JSON."""

    inputs = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 6, "cols": 60, "spellcheck": "false"}), help_text='A JSON object, such as {"name": "Ann"}.'
    )

    def clean_inputs(self) -> dict[str, Any]:
        try:
            value = json.loads(self.cleaned_data["inputs"] or "{}")
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is no JSON: {error}") from None
        if not isinstance(value, dict):
            raise forms.ValidationError("Inputs are a JSON object.")
        return value


def labels_of(text: str) -> dict[str, str]:
    """Labels written as `key=value`, one a word or a line. Raises Malformed for one without a value."""
    found = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise errors.Malformed(f"A label is key=value; {word[:60]!r} is not.")
        found[key] = value
    return found

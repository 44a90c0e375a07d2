"""The form fields of something new in a namespace."""

from collections.abc import Mapping
from typing import ClassVar

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict

from graphs.auth.callers import Caller
from graphs.definition import errors, names
from graphs.definition.plan import BUILTIN
from graphs.models import Namespace
from graphs.services.examples import NAMESPACE
from graphs.web.pickers import PickerField


def startable_namespaces(caller: Caller) -> QuerySet[Namespace]:
    """The namespaces in which the caller may start runs, and store graphs and datasets."""
    namespaces = Namespace.objects.exclude(name=BUILTIN).order_by("name")
    pks = caller.namespaces_with("start")
    return namespaces if pks is None else namespaces.filter(pk__in=pks)


def lacks_namespace() -> bool:
    """Whether there is no namespace yet to which anything could belong."""
    return not Namespace.objects.exclude(name=BUILTIN).exists()


def namespace_field() -> PickerField:
    """A field for a namespace. `startable_namespaces` is its queryset."""
    return PickerField(
        Namespace.objects.none(), columns=["name"], kind="startable", empty_label=None
    )


class NamedForm(forms.Form):
    """The name of something new and its namespace, one in which the caller may start runs."""

    kind: ClassVar[str]  # what is named, as `names.checked` knows it

    namespace = namespace_field()
    name = forms.CharField(max_length=200)

    def __init__(
        self,
        caller: Caller,
        data: Mapping[str, str] | None = None,
        files: MultiValueDict[str, UploadedFile] | None = None,
        initial: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data, files, initial=dict(initial or {}))
        self.fields["namespace"].queryset = startable_namespaces(caller)  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        try:
            return names.checked(self.kind, self.cleaned_data["name"])
        except errors.Malformed as error:
            raise forms.ValidationError(str(error)) from None


class ExampleForm(forms.Form):
    """The namespace to which an example is added."""

    LABEL: ClassVar = "Namespace for the example"

    namespace = namespace_field()

    def __init__(self, caller: Caller, data: Mapping[str, str] | None = None) -> None:
        super().__init__(data)
        namespaces = startable_namespaces(caller)
        field = self.fields["namespace"]
        field.queryset = namespaces  # type: ignore[attr-defined]
        field.widget.attrs["aria-label"] = self.LABEL
        if data is None:
            field.initial = namespaces.filter(name=NAMESPACE).values_list("pk", flat=True).first()

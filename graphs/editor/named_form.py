"""The form fields of something new in a namespace."""

from collections.abc import Mapping
from typing import ClassVar, cast

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict

from graphs.auth.callers import Caller
from graphs.definition import errors, names
from graphs.definition.plan import BUILTIN
from graphs.models import Namespace


def startable_namespaces(caller: Caller) -> QuerySet[Namespace]:
    """The namespaces in which the caller may start runs, and store graphs and datasets."""
    namespaces = Namespace.objects.exclude(name=BUILTIN)
    pks = [namespace.pk for namespace in namespaces if caller.can("start", namespace.pk)]
    return Namespace.objects.filter(pk__in=pks).order_by("name")


class NamedForm(forms.Form):
    """The name of something new and its namespace, one in which the caller may start runs."""

    kind: ClassVar[str]  # what is named, as `names.checked` knows it

    namespace = forms.ModelChoiceField(queryset=Namespace.objects.none(), empty_label=None)
    name = forms.CharField(max_length=200)

    def __init__(
        self,
        caller: Caller,
        data: Mapping[str, str] | None = None,
        files: MultiValueDict[str, UploadedFile] | None = None,
    ) -> None:
        super().__init__(data, files)
        field = cast(forms.ModelChoiceField, self.fields["namespace"])
        field.queryset = startable_namespaces(caller)

    def clean_name(self) -> str:
        try:
            return names.checked(self.kind, self.cleaned_data["name"])
        except errors.Malformed as error:
            raise forms.ValidationError(str(error)) from None

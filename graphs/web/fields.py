"""Form fields that the pages of both apps use."""

from collections.abc import Mapping

from django import forms
from django.core.files.uploadedfile import UploadedFile

from graphs.services import dialects
from graphs.services.dataset_files import Reading


class ManyFiles(forms.ClearableFileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One or several uploaded files; the value is a list."""

    widget = ManyFiles

    def clean(
        self, data: UploadedFile | list[UploadedFile] | None, initial: object = None
    ) -> list[UploadedFile]:
        files = data if isinstance(data, list) else [data]
        return [super(FilesField, self).clean(file, initial) for file in files if file]


def encoding_field() -> forms.CharField:
    return forms.CharField(
        initial="utf-8",
        max_length=40,
        help_text="The encoding of files without a byte order mark: utf-8, windows-1252, …",
    )


def delimiter_field() -> forms.ChoiceField:
    names = [(name, name) for name in dialects.BY_NAME]
    return forms.ChoiceField(
        choices=names, required=False, help_text="What separates the columns of CSV files."
    )


def reading_of(cleaned: Mapping[str, str]) -> Reading:
    """How the files of a form with these two fields are read."""
    return Reading(cleaned["encoding"], dialects.BY_NAME[cleaned["delimiter"] or dialects.AUTO])

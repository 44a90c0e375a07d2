"""Form fields that the pages of both apps use."""

from django import forms
from django.core.files.uploadedfile import UploadedFile


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

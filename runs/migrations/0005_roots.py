"""Reruns that were made before their tree was noted."""

from django.db import migrations


def note_roots(apps, schema_editor):
    Run = apps.get_model("runs", "Run")
    for pk, parent in Run.objects.filter(parent__isnull=False).order_by("pk").values_list("pk", "parent").iterator():
        Run.objects.filter(pk=pk).update(root=Run.objects.values_list("root", flat=True).get(pk=parent) or parent)


class Migration(migrations.Migration):
    dependencies = [("runs", "0004_run_manager")]
    operations = [migrations.RunPython(note_roots, migrations.RunPython.noop)]

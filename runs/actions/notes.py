"""Notes that people write on runs."""

from django.db import transaction

from graphs.auth.callers import Caller
from graphs.definition import errors
from runs.actions.delete import may_delete
from runs.models import AuditEntry, Run, RunNote

MAX_NOTES = 100  # of a run
MAX_TEXT = 2000  # characters of a note


def add_note(run: Run, caller: Caller, text: str) -> RunNote:
    """Write a note on the run.

    Raises Forbidden without the right, Malformed for an empty or too long text, Conflict if the
    run has as many notes as it may have, and NotFound if it is gone.
    """
    caller.require("change", run.namespace_id)
    text = text.replace("\r\n", "\n")
    if not text.strip() or len(text) > MAX_TEXT or "\x00" in text:
        raise errors.Malformed(f"A note has 1 to {MAX_TEXT:,} characters, none of them NUL.")
    with transaction.atomic():
        # The lock makes the limit exact, and keeps the run from being deleted meanwhile.
        if not Run.objects.select_for_update(no_key=True).filter(pk=run.pk).values("pk"):
            raise errors.NotFound(f"There is no run {run.run_id!r}.")
        if RunNote.objects.filter(run=run).count() >= MAX_NOTES:
            raise errors.Conflict(f"A run has at most {MAX_NOTES} notes; delete one first.")
        note = RunNote.objects.create(run=run, author=caller.label[:150], text=text)
        AuditEntry.objects.record(caller, "note", run)
    return note


def may_delete_note(note: RunNote, run: Run, caller: Caller) -> bool:
    """Its author may delete a note, and whoever may delete the run."""
    is_own = note.author == caller.label[:150] and caller.can("change", run.namespace_id)
    return is_own or may_delete(caller, run.namespace_id)


def delete_note(run: Run, caller: Caller, note_pk: int) -> None:
    """Raises NotFound if the run has no such note, and Forbidden if it is somebody else's."""
    note = RunNote.objects.filter(run=run, pk=note_pk).first()
    if note is None:
        raise errors.NotFound(f"The run has no note {note_pk}.")
    if not may_delete_note(note, run, caller):
        raise errors.Forbidden("A note is deleted by its author, or by who may delete the run.")
    with transaction.atomic():
        if RunNote.objects.filter(pk=note.pk).delete()[0]:
            AuditEntry.objects.record(caller, "delete_note", run, f"by {note.author}")

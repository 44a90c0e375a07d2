"""The models of runs, of their states, and of what belongs to them."""

from runs.models.answer_deadline import AnswerDeadline
from runs.models.artifact import Artifact
from runs.models.audit import AuditEntry
from runs.models.bulk import BulkOperation, BulkResult
from runs.models.checkpoint import Checkpoint, CheckpointBlob, CheckpointWrite, ToolResult
from runs.models.cluster import Cluster
from runs.models.installation import Installation
from runs.models.log_line import LogLine
from runs.models.note import RunNote
from runs.models.notification import (
    NotificationEvent,
    NotificationMessage,
    NotificationRule,
)
from runs.models.queue_entry import QueueEntry
from runs.models.recurring_rerun import RecurringRerun
from runs.models.run import Run
from runs.models.run_deadline import RunDeadline
from runs.models.run_input import RunInput, digest_of
from runs.models.run_slot import RunSlot
from runs.models.run_template import RunTemplate
from runs.models.saved_view import ColumnChoice, SavedView
from runs.models.state import OUTSIDE, State
from runs.models.tombstone import Tombstone

__all__ = [
    "OUTSIDE",
    "AnswerDeadline",
    "Artifact",
    "AuditEntry",
    "BulkOperation",
    "BulkResult",
    "Checkpoint",
    "CheckpointBlob",
    "CheckpointWrite",
    "Cluster",
    "ColumnChoice",
    "Installation",
    "LogLine",
    "NotificationEvent",
    "NotificationMessage",
    "NotificationRule",
    "QueueEntry",
    "RecurringRerun",
    "Run",
    "RunDeadline",
    "RunInput",
    "RunNote",
    "RunSlot",
    "RunTemplate",
    "SavedView",
    "State",
    "Tombstone",
    "ToolResult",
    "digest_of",
]

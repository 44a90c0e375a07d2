"""The fields of a graph's settings that limit its runs: priority, times, and how many at once."""

from collections.abc import Mapping

from django import forms

from graphs.definition.concurrency import CANCEL_QUEUED, CANCEL_RUNNING, MAX_LIMIT, QUEUE, SKIP
from graphs.definition.expressions import MAX_LENGTH
from graphs.definition.problems import object_at
from graphs.definition.schema import MAX_PRIORITY, MAX_TIME_LIMIT, MIN_PRIORITY
from graphs.definition.types import Json, JsonObject
from graphs.web.touched_form import MergedForm, set_or_remove

PRIORITY, LIMIT, KEY, AT_LIMIT = "priority", "concurrency", "concurrency_key", "at_limit"
TIME_LIMITS = {"timeout": "Its runs end after", "start_by": "Its runs start within"}
NAMES = (PRIORITY, *TIME_LIMITS, LIMIT, KEY, AT_LIMIT)
ACTIONS = [
    (QUEUE, "the run waits"),
    (SKIP, "the run is skipped"),
    (CANCEL_QUEUED, "the run takes the place of those that wait"),
    (CANCEL_RUNNING, "the run takes the place of the oldest"),
]


def fields(settings: Mapping[str, Json]) -> dict[str, forms.Field]:
    """The fields by their names, with the values of these settings."""
    limit = object_at(settings, "concurrency")
    times = {
        name: forms.FloatField(
            required=False,
            min_value=0.001,
            max_value=MAX_TIME_LIMIT,
            label=label,
            initial=settings.get(name),
            help_text="Seconds; no limit if empty.",
        )
        for name, label in TIME_LIMITS.items()
    }
    return {
        PRIORITY: forms.IntegerField(
            required=False,
            min_value=MIN_PRIORITY,
            max_value=MAX_PRIORITY,
            label="Priority of its runs",
            initial=settings.get("priority"),
            help_text="From -100 to 100; 0 if empty. Runs of higher priority are executed first.",
        ),
        **times,
        LIMIT: forms.IntegerField(
            required=False,
            min_value=1,
            max_value=MAX_LIMIT,
            label="Runs active at once",
            initial=limit.get("limit"),
            help_text="No limit if empty.",
        ),
        KEY: forms.CharField(
            required=False,
            max_length=MAX_LENGTH,
            label="… with the same",
            initial=limit.get("key") or "",
            help_text="An expression such as inputs.customer or labels.team; all runs if empty.",
        ),
        AT_LIMIT: forms.ChoiceField(
            required=False,
            choices=ACTIONS,
            label="When there are as many",
            initial=limit.get("at_limit") or QUEUE,
        ),
    }


def check(form: MergedForm) -> None:
    """Refuse a key without a limit."""
    if form.touched(KEY) and form.cleaned_data.get(KEY) and not form.cleaned_data.get(LIMIT):
        form.add_error(KEY, "Enter how many runs with the same key may be active at once, too.")


def apply(form: MergedForm, settings: JsonObject) -> None:
    """Write what was changed to the settings."""
    values = form.cleaned_data
    for name in (PRIORITY, *TIME_LIMITS):
        if form.touched(name):
            set_or_remove(settings, name, values[name])
    if form.touched(LIMIT, KEY, AT_LIMIT):
        limit = dict(object_at(settings, "concurrency"))
        set_or_remove(limit, "limit", values[LIMIT])
        set_or_remove(limit, "key", values[KEY])
        set_or_remove(limit, "at_limit", None if values[AT_LIMIT] == QUEUE else values[AT_LIMIT])
        set_or_remove(settings, "concurrency", limit if values[LIMIT] else None)

"""The form of a schedule: presets for those who don't know cron, an expression for the others."""

from datetime import datetime
from zoneinfo import ZoneInfo

from django import forms
from django.http import QueryDict
from django.utils import timezone

from graphs.definition import cron_presets, errors, time_zones
from graphs.definition.cron_presets import Preset, preset_of
from graphs.definition.types import JsonObject
from graphs.web.messages import message_of
from runs.actions.due_times import first_times

SHOWN_TIMES = 5
CRON = "cron"  # the choice of an expression
# For which choices of `every` each field is shown.
FIELDS_OF = {
    "minutes": "minutes",
    "minute": "hour",
    "at": "day weekdays week month",
    "weekday": "week",
    "day": "month",
    "expression": CRON,
}


class ScheduleForm(forms.Form):
    """`schedule` and `time_zone` of `cleaned_data` are the expression and its zone.

    A form without data shows the schedule that it is given.
    """

    every = forms.ChoiceField(
        choices=[*cron_presets.KINDS.items(), (CRON, "A cron expression")], label="Repeat"
    )
    minutes = forms.TypedChoiceField(
        choices=[(number, number) for number in cron_presets.MINUTES],
        coerce=int,
        required=False,
        label="Minutes between two runs",
    )
    minute = forms.IntegerField(
        min_value=0, max_value=59, required=False, label="Minute of the hour"
    )
    weekday = forms.TypedChoiceField(
        choices=list(enumerate(cron_presets.WEEKDAYS)), coerce=int, required=False, label="Day"
    )
    day = forms.IntegerField(
        min_value=1, max_value=cron_presets.MAX_DAY, required=False, label="Day of the month"
    )
    at = forms.TimeField(
        required=False, label="Time", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M")
    )
    expression = forms.CharField(
        max_length=200,
        required=False,
        label="Cron expression",
        help_text="Minute, hour, day of month, month, day of week: 0 6 * * 1-5.",
    )
    time_zone = forms.CharField(
        max_length=60, widget=forms.TextInput(attrs={"list": "sm-zones", "size": 30})
    )

    def __init__(
        self, data: QueryDict | None = None, expression: str = "", time_zone: str = ""
    ) -> None:
        super().__init__(data, initial=_initial(expression, time_zone))
        for name, choices in FIELDS_OF.items():
            self.fields[name].choices_shown = choices  # type: ignore[attr-defined]
        self.zones = sorted(time_zones.names())
        self.times: list[datetime] = []

    def clean(self) -> JsonObject:
        """Make the expression, and the first times that it is due."""
        values = super().clean() or {}
        if self.errors:
            return values
        values["schedule"] = self._expression(values)
        try:
            self.times = first_times(values["schedule"], values["time_zone"], SHOWN_TIMES)
        except errors.StateManagerError as error:
            self.add_error(None, message_of(error))
        return values

    def _expression(self, values: JsonObject) -> str:
        if values["every"] == CRON:
            return str(values["expression"])
        usual = Preset(values["every"])
        at = values["at"]

        def given(name: str) -> int:
            value = values[name]
            return getattr(usual, name) if value in (None, "") else value

        return Preset(
            usual.every,
            minutes=given("minutes"),
            minute=at.minute if at and usual.every != "hour" else given("minute"),
            hour=at.hour if at else usual.hour,
            weekday=given("weekday"),
            day=given("day"),
        ).expression

    def local_times(self) -> list[datetime]:
        """The first times that it is due, in its own zone."""
        zone = ZoneInfo(self.cleaned_data["time_zone"])
        return [moment.astimezone(zone) for moment in self.times]


def _initial(expression: str, time_zone: str) -> JsonObject:
    preset = preset_of(expression) if expression else Preset("hour")
    shown = preset or Preset(CRON)
    return {
        "every": shown.every,
        "minutes": shown.minutes,
        "minute": shown.minute,
        "weekday": shown.weekday,
        "day": shown.day,
        "at": f"{shown.hour:02d}:{0 if shown.every == 'hour' else shown.minute:02d}",
        "expression": expression,
        "time_zone": time_zone or timezone.get_current_timezone_name(),
    }

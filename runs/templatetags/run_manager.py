"""Template tags and filters of the Run Manager's pages."""

from django import template
from django.template import Context
from django.template.loader import render_to_string

from graphs.definition import cron_presets
from graphs.templatetags.ui import sees_runs
from graphs.web.formats import clock_time
from runs.manager import badges, navigation
from runs.manager.dashboard import context_for

register = template.Library()
register.filter("badge", badges.run_badge)
register.filter("state_badge", badges.state_badge)
register.filter("label_badges", badges.labels)
register.filter("schedule_words", cron_presets.in_words)
register.filter("clock_time", clock_time)
register.filter("without_places", navigation.without_places)


@register.simple_tag(takes_context=True)
def places(context: Context) -> list[navigation.Place]:
    """The places of the navigation; none on pages that Django makes without the request."""
    request = context.get("request")
    return navigation.places(request) if request else []


@register.simple_tag(takes_context=True)
def dashboard(context: Context) -> str:
    """The dashboard; nothing for users who may not see runs."""
    if not sees_runs(context):
        return ""
    request = context["request"]
    return render_to_string("run_manager/_dashboard.html", context_for(request), request=request)

"""The channels of notifications: signed webhooks, and mail.

Webhooks are those of Standard Webhooks 1.0 (https://www.standardwebhooks.com): the headers
webhook-id, webhook-timestamp and webhook-signature, which is "v1," and the base64 of an HMAC-SHA256
of "id.timestamp.body" by the bytes of the secret.
"""

import base64
import hashlib
import hmac
import json

from django.core.mail import EmailMessage
from django.urls import reverse

from graphs.definition.types import JsonObject
from graphs.nodes import http_client
from graphs.nodes.base import NodeFailed
from graphs.services import secrets
from runs.core import sql
from runs.models import NotificationMessage, NotificationRule, Run
from statemanager.conf import conf

TIMEOUT_SECONDS = 10.0
GONE = 410
VERBS = {
    "failed": "failed",
    "partial": "succeeded in part",
    "cancelled": "was cancelled",
    "completed": "completed",
    "waiting": "waits for an answer",
}


class NotDelivered(Exception):
    """The message could not be delivered; it may be later."""


class Gone(Exception):
    """The receiver wants no more messages."""


def send(message: NotificationMessage, body: JsonObject) -> None:
    """Send a message. Raises NotDelivered, and Gone if a webhook answers 410."""
    if message.rule.channel == NotificationRule.Channel.MAIL:
        _mail(message.rule, body)
    else:
        _post(message, body)


def url_of(run: Run) -> str | None:
    """The address of the run's page; None unless PUBLIC_URL says where the site is."""
    if not conf.PUBLIC_URL:
        return None
    return f"{conf.PUBLIC_URL}{reverse('run_page', args=[run.pk])}"


def _post(message: NotificationMessage, body: JsonObject) -> None:
    content = json.dumps(body).encode()
    timestamp = int(sql.clock().timestamp())
    secret = secrets.decrypt(message.rule.token, message.rule.name)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "StateManager",
        "webhook-id": str(message.pk),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, str(message.pk), timestamp, content),
    }
    try:
        response = http_client.send("POST", message.rule.target, headers, content, TIMEOUT_SECONDS)
    except NodeFailed as error:
        raise NotDelivered(str(error)) from None
    if response.status == GONE:
        raise Gone("the webhook answered 410")
    if not 200 <= response.status < 300:
        raise NotDelivered(f"the webhook answered {response.status}: {response.text[:200]}")


def signature(secret: str, message_id: str, timestamp: int, content: bytes) -> str:
    """The value of webhook-signature. `secret` is "whsec_" and base64, `timestamp` Unix seconds."""
    key = base64.b64decode(secret.partition("_")[2])
    signed = f"{message_id}.{timestamp}.".encode() + content
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _mail(rule: NotificationRule, body: JsonObject) -> None:
    addresses = rule.target.split(", ")
    headers = {"Message-ID": f"<{body['id']}@statemanager>"}
    try:
        EmailMessage(subject_of(body), text_of(body), to=addresses, headers=headers).send()
    except OSError as error:  # those of smtplib, too
        raise NotDelivered(f"the mail could not be sent: {error}") from None


def subject_of(body: JsonObject) -> str:
    """One line that says what happened."""
    if body["test"]:
        return f"Test of the rule {_line(body['rule'])}"
    if body["count"] == 1:
        event = body["events"][0]
        name = event["name"] or event["graph"] or event["run_id"]
        return f"{_line(name)} {VERBS[event['event']]}"
    parts = [f"{number:,} {event}" for event, number in body["counts"].items()]
    return f"{body['count']:,} runs: {', '.join(parts)}"


def text_of(body: JsonObject) -> str:
    """The text of a mail: a paragraph for each event."""
    if body["test"]:
        return "This message was sent to see whether it arrives.\n"
    paragraphs = [_paragraph(event) for event in body["events"]]
    rest = body["count"] - len(body["events"])
    if rest:
        paragraphs.append(f"and {rest:,} more")
    paragraphs.append(f"Sent by the notification rule {body['rule']}.")
    return "\n\n".join(paragraphs) + "\n"


def _paragraph(event: JsonObject) -> str:
    name = f"{event['name']} ({event['run_id']})" if event["name"] else event["run_id"]
    where = "/".join(filter(None, (event["namespace"], event["graph"])))
    lines = [f"{name} of {where} {VERBS[event['event']]} at {event['at']}"]
    lines += [text for text in (event["error"], event["url"]) if text]
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(text.split())[:150]

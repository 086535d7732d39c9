"""JSON to a URL: the whole message for programs, or its text for a chat in Slack or Mattermost."""

from __future__ import annotations

import hmac
from typing import Any

import msgspec

from ha_monitor.config.notify import Secrets, Webhook
from ha_monitor.notify.channel import Deadline
from ha_monitor.notify.http import connected, place_of, request
from ha_monitor.notify.message import Message, document_of, lines_of

SIGNATURE, ID = "X-Signature-256", "X-Delivery-Id"
"""Headers: `sha256=` and the HMAC-SHA256 of the body in hex; the id of the message, which is also in the body."""


class WebhookChannel:
    """See `channel.Channel`."""

    def __init__(self, settings: Webhook, secrets: Secrets) -> None:
        self._url = settings.url or secrets.url
        self._template = settings.template
        self._key = secrets.key.encode()

    def deliver(self, message: Message, deadline: Deadline) -> str:
        body = msgspec.json.encode(self._document(message))
        headers = {ID: message.id}
        if self._key:
            headers[SIGNATURE] = f"sha256={hmac.new(self._key, body, 'sha256').hexdigest()}"
        request("POST", self._url, deadline, body=body, headers=headers)
        return ""

    def probe(self, deadline: Deadline) -> str:
        with connected(self._url, deadline):
            return f"{place_of(self._url)} can be reached; ha-monitor notify test tries the rest"

    def _document(self, message: Message) -> dict[str, Any]:
        if self._template == "slack":
            return slack_of(message)
        return mattermost_of(message) if self._template == "mattermost" else document_of(message)


def slack_of(message: Message) -> dict[str, Any]:
    """Slack interprets `<!channel>` and links in such brackets, so they are escaped as its documentation says."""
    lines = [one.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for one in lines_of(message)]
    return {"text": "\n".join(lines), "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def mattermost_of(message: Message) -> dict[str, Any]:
    """Mattermost interprets `@channel` and Markdown, except in a code block; so nothing in the text may end it."""
    text = "\n".join(lines_of(message)).replace("`", "'")
    return {"text": f"```text\n{text}\n```"}

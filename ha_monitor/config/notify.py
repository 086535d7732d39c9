"""Settings of the channels that are notified of incidents: one class per kind, distinguished by `type`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from ha_monitor.config.type_words import in_words
from ha_monitor.config.urls import BAD_HOST, can_be_host, http_problem_of

Url = Annotated[
    str,
    Meta(
        pattern=r"^https?://[A-Za-z0-9_.\[\]:-]+(/[!-~]*)?\Z",
        title="a URL such as https://host/path, without a password in it",
    ),
]
OptionalUrl = Annotated[
    str,
    Meta(
        pattern=r"^\Z|^https?://[A-Za-z0-9_.\[\]:-]+(/[!-~]*)?\Z",
        title="a URL such as https://host/path, without a password in it",
    ),
]
Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,1000}\Z", title="a text without control characters")]
_WORD = r"""[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff"(),.:;<>@\[\\\]]{1,100}"""
_ONE = rf"{_WORD}(\.{_WORD}){{0,20}}(@{_WORD}(\.{_WORD}){{0,20}})?"
_CALLED = rf"""({_WORD}( {_WORD}){{0,20}}|"[^"\\<>\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,100}}")"""
Address = Annotated[
    str,
    Meta(
        pattern=rf"^(?!.*=\?)({_ONE}|{_CALLED} ?<{_ONE}>)\Z",
        title='one address, such as ops@example.org or "Ops, Shop" <ops@example.org>',
    ),
]
ChannelName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}\Z", title="up to 40 small letters, digits and -")]


class Alertmanager(Struct, forbid_unknown_fields=True, frozen=True, tag="alertmanager"):
    """Prometheus' Alertmanager, which groups, routes and silences alerts itself."""

    urls: Annotated[list[Url], Meta(min_length=1, max_length=20)]
    """All members of the cluster, listed individually: no load balancer."""
    username: str = ""
    """For basic authentication; the password is the secret `password`."""


class PagerDuty(Struct, forbid_unknown_fields=True, frozen=True, tag="pagerduty"):
    """PagerDuty's Events API v2; the secret `key` is the integration key."""

    url: Url = "https://events.pagerduty.com/v2/enqueue"


class Webhook(Struct, forbid_unknown_fields=True, frozen=True, tag="webhook"):
    """JSON to a URL. The URL may be the secret `url` instead; if there is a secret `key`, it signs the body."""

    url: OptionalUrl = ""
    template: Literal["json", "slack", "mattermost"] = "json"


class Email(Struct, forbid_unknown_fields=True, frozen=True, tag="email"):
    """A mail server; the password for `username` is the secret `password`."""

    to: Annotated[list[Address], Meta(min_length=1, max_length=50)]
    sender: Address
    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0 for the standard port: 587, 465 or 25."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: Annotated[str, Meta(max_length=1000)] = ""


class Exec(Struct, forbid_unknown_fields=True, frozen=True, tag="exec"):
    """A program that gets the message as JSON on standard input."""

    command: Annotated[list[Text], Meta(min_length=1, max_length=100)]


class Heartbeat(Struct, forbid_unknown_fields=True, frozen=True, tag="heartbeat"):
    """A URL that is fetched while the fleet consumes, so that the service behind it notices when that stops. The URL
    may be the secret `url` instead.
    """

    url: OptionalUrl = ""
    every: Annotated[float, Meta(ge=10, le=86400)] = 60.0


ChannelSettings = Alertmanager | PagerDuty | Webhook | Email | Exec | Heartbeat
TYPES: Mapping[str, type[ChannelSettings]] = {
    "alertmanager": Alertmanager,
    "pagerduty": PagerDuty,
    "webhook": Webhook,
    "email": Email,
    "exec": Exec,
    "heartbeat": Heartbeat,
}
"""Classes by the `type` that distinguishes them."""


class Secrets(Struct, forbid_unknown_fields=True, frozen=True):
    """The secrets of one channel; which ones it needs depends on its type."""

    url: OptionalUrl = ""
    key: Annotated[str, Meta(max_length=1000)] = ""
    password: Annotated[str, Meta(max_length=1000)] = ""


class Route(Struct, forbid_unknown_fields=True, frozen=True):
    """Channels, and the incidents that they are notified of: those that match all keys of the route."""

    channels: Annotated[list[ChannelName], Meta(min_length=1)]
    severity: Literal["", "page", "warn"] = ""
    kinds: list[str] = field(default_factory=list)
    """Patterns, such as `worker-*`."""
    names: list[str] = field(default_factory=list)
    """Patterns for what the incident is about: a worker, a queue or a task."""


class Notify(Struct, forbid_unknown_fields=True, frozen=True):
    """Which channels are notified of incidents, and how. See docs/being-told.md."""

    base_url: Annotated[
        OptionalUrl,
        Meta(description="Address that links in messages lead to; empty for web.url, or no links"),
    ] = ""
    channels: Annotated[
        dict[ChannelName, ChannelSettings],
        Meta(description='Channels by name: {"pager" = {type = "pagerduty"}}; the types are in docs/being-told.md'),
    ] = field(default_factory=dict)
    routes: Annotated[
        list[Route],
        Meta(
            max_length=100,
            description='Which channels are notified of which incidents: [{channels = ["pager"], severity = "page"}]; '
            "every matching route counts; empty to notify all channels of everything",
        ),
    ] = field(default_factory=list)
    secrets: Annotated[
        dict[ChannelName, Secrets],
        Meta(description='Secrets of the channels, only as a credential or variable: {"pager": {"key": "…"}} as JSON'),
    ] = field(default_factory=dict)

    def secrets_of(self, channel: str) -> Secrets:
        """The secrets of a channel; it may have none."""
        return self.secrets.get(channel, Secrets())


def problem_in(channels: Any) -> str | None:
    """What is wrong with the channels in a file, as a text that begins with the key; None if nothing is. msgspec does
    not say which channel an error is about.
    """
    if not isinstance(channels, dict):
        return None
    for name, channel in channels.items():
        key = f"notify.channels.{name}" if name.isprintable() else "notify.channels"
        try:
            msgspec.convert(name, ChannelName)
        except msgspec.ValidationError:
            return f"{key}: expected a name of up to 40 small letters, digits and -"
        kind = TYPES.get(str(channel.get("type"))) if isinstance(channel, dict) else None
        if kind is None:
            return f"{key}.type: expected one of {', '.join(TYPES)}"
        try:
            msgspec.convert(channel, kind)
        except msgspec.ValidationError as error:
            text, _, where = str(error).partition(" - at `$")
            known = ", ".join(one.name for one in msgspec.structs.fields(kind))
            hint = f"; expected one of type, {known}" if "unknown field" in text else ""
            return f"{key}{where.rstrip('`')}: {_in_words(text)}{hint}"
    return None


def _in_words(text: str) -> str:
    text = text.replace("Object missing required field", "expected")
    text = text.replace("Object contains unknown field", "unknown key")
    for kind in (Url, OptionalUrl, Text, Address):
        shown = msgspec.inspect.type_info(kind)
        assert isinstance(shown, msgspec.inspect.Metadata)
        if "matching regex" in text and repr(getattr(shown.type, "pattern", None)) in text:
            return f"expected {(shown.extra_json_schema or {}).get('title')}"
    text = text.replace("`", "") if text.startswith(("expected `", "unknown key")) else in_words(text)
    return text[:1].lower() + text[1:]


def secret_texts(secrets: Mapping[str, Secrets]) -> set[str]:
    """All texts that must not be shown."""
    return {text for one in secrets.values() for text in (one.url, one.key, one.password) if text}


def problem_of(settings: Notify) -> str | None:
    """What is inconsistent or could never be used, as a text that begins with the key; None if nothing is."""
    return next(_problems(settings), None)


def _problems(settings: Notify) -> Iterator[str]:
    for number, route in enumerate(settings.routes):
        key = f"notify.routes[{number}].channels"
        if unknown := sorted(set(route.channels) - settings.channels.keys()):
            known = ", ".join(sorted(settings.channels)) or "none"
            yield f"{key}: no channel is called {unknown[0]}; there are {known}"
        elif all(isinstance(settings.channels[name], Heartbeat) for name in route.channels):
            yield f"{key}: expected one that is told of incidents; {route.channels[0]} is a heartbeat"
    if unknown := sorted(settings.secrets.keys() - settings.channels.keys()):
        yield f"notify.secrets: no channel is called {unknown[0]}"
    for key, url in _urls(settings):
        if url and (problem := http_problem_of(url)):
            yield f"{key}: {problem}"
    for name, channel in settings.channels.items():
        if isinstance(channel, Email) and not can_be_host(channel.host):
            yield f"notify.channels.{name}.host: {BAD_HOST}"


def _urls(settings: Notify) -> Iterator[tuple[str, str]]:
    yield "notify.base_url", settings.base_url
    for name, channel in settings.channels.items():
        if isinstance(channel, Alertmanager):
            yield from ((f"notify.channels.{name}.urls[{number}]", url) for number, url in enumerate(channel.urls))
        elif isinstance(channel, PagerDuty | Webhook | Heartbeat):
            yield f"notify.channels.{name}.url", channel.url
    yield from ((f"notify.secrets.{name}.url", secrets.url) for name, secrets in settings.secrets.items())


def missing_in(settings: Notify) -> str | None:
    """What a channel lacks, such as a secret, as a text that begins with the key; None if nothing. Not part of
    validation, because users of commands that only read may not be able to read the secrets.
    """
    for name, channel in settings.channels.items():
        lacking = _missing(channel, settings.secrets_of(name))
        if lacking:
            return f"notify.channels.{name}: expected {lacking}"
    return None


def _missing(channel: Any, secrets: Secrets) -> str:
    if isinstance(channel, Webhook | Heartbeat) and bool(channel.url) == bool(secrets.url):
        place = "here or as the secret url"
        return f"one url, {place}, and not both" if secrets.url else f"a url, {place}"
    if isinstance(channel, PagerDuty) and not secrets.key:
        return "the secret key, which is the integration key of the service"
    if isinstance(channel, Alertmanager | Email) and bool(channel.username) != bool(secrets.password):
        return "both or neither of username and the secret password"
    if isinstance(channel, Email) and channel.username and channel.tls == "none":
        return "tls, or a password would be sent in the clear"
    return ""

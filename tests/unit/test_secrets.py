"""Passwords stay out of what people and logs can read."""

from __future__ import annotations

import pytest

from ha_monitor.check import channels
from ha_monitor.config.notify import Email, Notify, Secrets
from ha_monitor.config.schema import Broker, Config, ResultBackend, StoreSettings
from ha_monitor.config.secrets import Scrubber, mask, mask_url
from ha_monitor.notify.channel import Deadline, Refused


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://user:hunter2@host:5672//", "amqp://user:***@host:5672//"),
        ("amqp://user:p@ss@host//", "amqp://user:***@host//"),
        ("redis://:hunter2@host/0", "redis://:***@host/0"),
        ("amqp://a:one@h1//;amqp://b:two@h2//", "amqp://a:***@h1//;amqp://b:***@h2//"),
        ("amqp://a:one@h1;amqp://b:two@h2", "amqp://a:***@h1;amqp://b:***@h2"),
        ("sentinel://:hunter2@h1:1,h2:2/main/0", "sentinel://:***@h1:1,h2:2/main/0"),
        ("redis://host/0?password=hunter2&db=1", "redis://host/0?password=***&db=1"),
        ("rediss://host/0?ssl_password=hunter2", "rediss://host/0?ssl_password=***"),
        ("cannot reach amqp://u:pw@h//, giving up", "cannot reach amqp://u:***@h//, giving up"),
        ("amqp://user@host//", "amqp://user@host//"),
        ("no URL: at all @ here", "no URL: at all @ here"),
    ],
)
def test_the_password_of_a_url_is_hidden(text: str, shown: str) -> None:
    """Given a text with URLs, only their passwords are replaced."""
    assert mask_url(text) == shown


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("broker.url", "amqp://u:pa/ss@host//", "amqp://u:***@host//"),
        ("broker.tls", {"keyfile_password": "x"}, "***"),
        ("my.password", "hunter2", "***"),
        ("store.lease", 0.5, "0.5"),
        ("store.prefix", "x" * 300, "x" * 200 + "…"),
    ],
)
def test_a_value_in_an_error_shows_no_secret(key: str, value: object, shown: str) -> None:
    """Given a value that is wrong, it is shown unless it may hold a secret."""
    assert mask(key, value) == shown


def test_foreign_texts_are_scrubbed_of_the_configured_passwords() -> None:
    """Given an error of a library that quotes a password, encoded or not, the password is replaced."""
    config = Config(
        broker=Broker(
            url="amqp://user:hun%40ter2@host//",
            tls={"keyfile_password": "opensesame"},
            transport_options={"sentinel_kwargs": {"password": "swordfish"}},
        ),
        store=StoreSettings(url="redis://host/0?password=correcthorse"),
    )
    scrub = Scrubber(config)

    text = scrub("hun%40ter2 hun@ter2 opensesame swordfish correcthorse redis://:other@h/0 user host")

    assert text == "*** *** *** *** *** redis://:***@h/0 user host"


def test_a_default_or_very_short_password_does_not_make_words_unreadable() -> None:
    """Given the password guest, which is no secret, and one of two letters, ordinary words stay readable."""
    scrub = Scrubber(Config(broker=Broker(url="amqp://guest:guest@h//"), store=StoreSettings(url="redis://:on@h/0")))

    assert scrub("a guest on the connection") == "a guest on the connection"


def test_the_password_of_the_result_backend_is_hidden() -> None:
    """Given a text with the passwords of `result_backend.url` and of its options, they are replaced."""
    options = {"master_name": "mymaster", "sentinel_kwargs": {"password": "battery"}}
    scrub = Scrubber(Config(result_backend=ResultBackend(url="redis://:correcthorse@h/1", transport_options=options)))

    assert scrub("no correcthorse battery here, mymaster") == "no *** *** here, mymaster"


class Refusing:
    """A channel that says what it was given."""

    def __init__(self, _settings: Email, secrets: Secrets) -> None:
        self._password = secrets.password

    def probe(self, _deadline: Deadline) -> str:
        raise Refused(f"mail:587: it answers 535 {self._password} is wrong")


def test_what_is_found_of_a_channel_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a mail server that repeats the password, `check --online` does not."""
    monkeypatch.setattr(channels, "make_channel", Refusing)
    mail = Email(["ops@example.org"], "monitor@example.org", username="monitor")
    config = Config(notify=Notify(channels={"mail": mail}, secrets={"mail": Secrets(password="hunter22")}))

    (found,) = channels.check_channels(config)

    assert found.text == "mail: mail:587: it answers 535 *** is wrong"

"""Passwords stay out of what people and logs can read."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import Mock

import pytest

from ha_monitor.check import channels
from ha_monitor.config.notify import Email, Notify, Secrets
from ha_monitor.config.schema import Broker, Config, ResultBackend, StoreSettings
from ha_monitor.config.secrets import Scrubber, mask, mask_url
from ha_monitor.errors import reason_of
from ha_monitor.notify.channel import Deadline, Refused
from ha_monitor.outputs.log import LibraryHandler


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


@pytest.mark.parametrize("shown", range(len("correct horse")))
def test_no_beginning_of_a_password_stays_where_a_text_is_cut(shown: int) -> None:
    """Given a message of a library, and an error, with a configured password where the text is cut, when they are
    written, then at most two characters of the password are in the line."""
    scrub = Scrubber(Config(store=StoreSettings(url="redis://:correct%20horse@h/0")))
    lines: list[dict[str, Any]] = []
    logger = Mock(warning=lambda event, **fields: lines.append({"event": event, **fields}))

    text = "." * (1000 - shown) + "correct horse" + "." * 100
    record = logging.LogRecord("redis", logging.WARNING, "", 0, text, None, None)
    LibraryHandler(logger, scrub).emit(record)
    LibraryHandler(logger, lambda one: one).emit(record)
    by_reason = [
        scrub(f"h:6379: {reason_of(ValueError('.' * (most - shown) + 'correct horse' + '.' * 5000), most)} (again)")
        for most in (200, 300)
    ]

    by_handler, by_logger = lines[0]["message"], scrub(lines[1]["message"])
    assert len(by_handler) <= 1000
    for written in (by_handler, by_logger, *by_reason):
        assert "cor" not in written
        assert "…" in written


def test_secrets_are_masked_before_a_message_of_a_library_is_cut() -> None:
    """Given a URL with a password, not a configured one, where a message is cut, none of it is in the line."""
    lines: list[str] = []
    logger = Mock(warning=lambda _event, *, library, message: lines.append(f"{library}: {message}"))
    text = "." * 980 + " amqp://user:hunter2" + "y" * 60 + "@host"

    LibraryHandler(logger, Scrubber(Config())).emit(logging.LogRecord("amqp", logging.WARNING, "", 0, text, None, None))

    assert len(lines) == 1
    assert "hunt" not in lines[0]


def test_a_text_that_was_cut_elsewhere_stays_readable() -> None:
    """Given a text that was cut where no password is, it stays as it is, and so does a word that was not cut."""
    scrub = Scrubber(Config(store=StoreSettings(url="redis://:correcthorse@h/0")))

    assert scrub("it is correct: connection c…") == "it is correct: connection c…"


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

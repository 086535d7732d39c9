"""What somebody is told who has mistyped: what was not understood, what it may have meant, and what there is."""

from __future__ import annotations

import pytest

from ha_monitor.cli.main import main
from ha_monitor.config.notify import problem_in
from ha_monitor.config.schema import StoreSettings
from ha_monitor.config.type_words import in_words
from ha_monitor.errors import ConfigurationError
from ha_monitor.store.connection import StoreConnection
from ha_monitor.text.suggestions import did_you_mean, similar


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["probelms"], "ha-monitor: probelms: unknown command, did you mean problems? The commands are run, check, "),
        (["zzzzzz"], "ha-monitor: zzzzzz: unknown command. The commands are run, check, "),
        (["a\x1b[31mb"], "ha-monitor: a\\x1b[31mb: unknown command. The commands are "),
        (
            ["errors", "--sort", "cout"],
            "ha-monitor: argument --sort: cout: expected one of last, first, count, hour, did you mean count?; see "
            "ha-monitor errors --help\n",
        ),
        (["queues", "--sort", "foo"], "ha-monitor: argument --sort: foo: expected one of oldest, waiting, in, out, "),
        (["tasks", "--sort", "retires"], "ha-monitor: retires: unknown field, did you mean retries? The fields are "),
    ],
)
def test_a_word_that_is_not_known_is_told_the_nearest(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Given a misspelt command or choice, one line names it, what is near, and what there is, for a terminal."""
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)

    assert status == 64
    assert capsys.readouterr().err.startswith(said)


def test_only_fields_are_named_that_tasks_can_be_sorted_by(capsys: pytest.CaptureFixture[str]) -> None:
    """Given a field to sort by that there is not, times are not among those that are named."""
    assert main(["tasks", "--sort", "zzz"]) == 64

    assert capsys.readouterr().err.endswith("runs, arg, reconciled, incomplete\n")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Expected `float`, got `str`", "expected a number, got a text"),
        ("Expected `int` >= 1", "expected a whole number >= 1"),
        ("Expected `array`, got `null`", "expected a list, got nothing"),
        ("Expected `str | null`, got `object`", "expected a text or nothing, got a table"),
        ("Expected `bool`, got `int`", "expected true or false, got a whole number"),
        ("Expected `str` matching regex '^int$'", "expected a text matching regex '^int$'"),
    ],
)
def test_types_are_told_in_words(said: str, words: str) -> None:
    """Given what the library says of a value, no type of Python is named."""
    assert in_words(said) == words


def test_types_of_the_settings_of_channels_are_told_in_words() -> None:
    """Given a channel with a value of another type, the same holds."""
    assert problem_in({"ops": {"type": "exec", "command": "x"}}) == (
        "notify.channels.ops.command: expected a list, got a text"
    )


@pytest.mark.parametrize("url", ["http://h/0", "redis:/h", "nonsense", "REDIS://h"])
def test_a_url_of_another_kind_is_told_all_kinds_of_the_store(url: str) -> None:
    """Given a URL that is none of a Redis, those that there are are named, with that of sentinels."""
    with pytest.raises(ConfigurationError, match=r"expected redis://, rediss://, unix:// or sentinel://$"):
        StoreConnection(StoreSettings(url=url)).validate()


def test_what_is_near() -> None:
    """Given texts, the nearest are found, and nothing where nothing is."""
    assert similar("shop.pya", ["shop.pay", "shop.pray", "mail.send"], 2) == ["shop.pay", "shop.pray"]
    assert did_you_mean("zzz", ["shop.pay"]) == ""

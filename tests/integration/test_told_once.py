"""Leaders are killed in the middle of deliveries: nobody hears twice who can tell, and nothing is forgotten."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ha_monitor.store.deliveries import pack_claim, read_claim
from ha_monitor.store.incidents import Incident, Phase, Severity
from tests.conftest import missing
from tests.integration.storing import Inside
from tests.support.alertmanager import PrivateAlertmanager
from tests.support.process import OwnProcess, ServiceMissing, wait_until
from tests.support.receivers import HttpReceiver, MailReceiver, Received, answering
from tests.support.services import PrivateRedis

KILLS = 20
VICTIMS = ("webhook", "mail", "webhook!", "exec", "pagerduty")
"""Whose deliveries the kills hit, in turn; with ! right behind the answer, and else before it."""
RESTARTED = 6
"""The incident for which Redis is restarted in the middle of deliveries. Nobody is killed for it: each fault may have
what is being delivered repeated once.
"""
AWAY = {10: "mail", 13: "alertmanager", 15: "exec"}
"""The channel that is away for an incident, until a leader has said so."""
INCIDENTS = KILLS + 1
IDEMPOTENT = ("alertmanager", "pagerduty")
CHANNELS = (*IDEMPOTENT, "webhook", "mail", "exec")


class Word(NamedTuple):
    """That a receiver was told of an incident."""

    channel: str
    incident: str
    phase: str
    id: str


class Receivers:
    """One for each kind of channel, and all that they are told."""

    def __init__(self, folder: Path) -> None:
        self._words: list[Word] = []
        self._posts: Counter[str] = Counter()
        self.kill: Callable[[], None] = lambda: None
        self.victim = ""
        """As in `VICTIMS`: at its next new word, the leader is killed."""
        self._lock = threading.Lock()
        self.http = HttpReceiver(self._posted)
        self.mail = MailReceiver()
        self.mail.before = self._mailed
        self.program = folder / "told"
        self.program.touch()
        self.away = folder / "away"

    def _posted(self, handler: BaseHTTPRequestHandler, received: Received) -> None:
        document, channel = received.document, received.path.strip("/")
        self._posts[channel] += 1
        if channel == "alertmanager":  # what it tells of what it was told
            words = [Word(channel, one["labels"]["incident"], one["status"], "") for one in document["alerts"]]
        elif channel == "pagerduty":
            phase = {"trigger": "firing", "resolve": "resolved"}[document["event_action"]]
            words = [Word(channel, document["dedup_key"], phase, document["dedup_key"])]
        else:
            words = [Word(channel, one["id"], one["phase"], one["delivery"]) for one in document["incidents"]]
        self._heard(words, lambda: answering()(handler, received))

    def go(self, channel: str, alertmanager: PrivateAlertmanager) -> None:
        """Stop the receiver of a channel."""
        if channel == "mail":
            self.mail.stop()
        elif channel == "exec":
            self.away.touch()
        else:
            alertmanager.note_messages(self._posts["alertmanager"])
            alertmanager.stop()

    def come_back(self, channel: str, alertmanager: PrivateAlertmanager) -> None:
        """Start it anew."""
        if channel == "mail":
            self.mail.come_back()
        elif channel == "exec":
            self.away.unlink()
        else:
            alertmanager.start()

    def _mailed(self, mail: Message) -> str:
        name, phase = str(mail["X-Delivery-Id"]), "resolved" if "resolved:" in str(mail["Subject"]) else "firing"
        self._heard([Word("mail", name.split(".", maxsplit=1)[0], phase, name)], lambda: None)
        return "250 OK"

    def _heard(self, words: list[Word], answer: Callable[[], None]) -> None:
        with self._lock:
            kills = self.victim.rstrip("!") == words[0].channel and not set(words) & set(self._words)
            after = self.victim.endswith("!")
            self._words += words
            if kills:
                self.victim = ""
        if kills and not after:
            self.kill()
        with suppress(OSError):  # of one that was killed
            answer()
        if kills and after:
            self.kill()

    @property
    def words(self) -> list[Word]:
        """All of them, those of the program last."""
        documents = [json.loads(line) for line in self.program.read_text().splitlines()]
        program = [
            Word("exec", one["id"], one["phase"], one["delivery"]) for each in documents for one in each["incidents"]
        ]
        return [*self._words, *program]

    def wait_for(self, channel: str, number: int, phase: str) -> None:
        """Until a receiver was told this of an incident."""
        what = (channel, f"i{number:02}", phase)
        wait_until(lambda: any(word[:3] == what for word in self.words), 60, " ".join(what), 0.02)


class World:
    """Three instances that tell, with the store, the receivers and the incidents of a test."""

    def __init__(self, folder: Path, redis: PrivateRedis, receivers: Receivers, alertmanager: str) -> None:
        self.folder, self.receivers = folder, receivers
        self.inside = Inside(redis.url())
        self.incidents: dict[str, Incident] = {}
        base = receivers.http.url.removesuffix("/hook")
        told, away = receivers.program, receivers.away
        # In one write, and nothing if there is nothing: that of a killed leader may still be at work beside the next.
        tell = f'words=$(cat); test -z "$words" || printf "%s\\n" "$words" >>{told}; sleep 0.5'
        program = ["sh", "-c", f"test ! -e {away} || exit 75; {tell}"]
        channels: dict[str, Any] = {
            "alertmanager": {"type": "alertmanager", "urls": [alertmanager]},
            "pagerduty": {"type": "pagerduty", "url": f"{base}/pagerduty"},
            "webhook": {"type": "webhook", "url": f"{base}/webhook"},
            "mail": {"type": "email", "to": ["a@b.org"], "sender": "c@d.org", "tls": "none"},
            "exec": {"type": "exec", "command": program},
        }
        channels["mail"]["port"] = receivers.mail.port
        notify = {"channels": channels, "secrets": {"pagerduty": {"key": "k"}}}
        self._killed = 0
        """Token of the leader that was killed last."""
        self._file = folder / "incidents.json"
        self.put()
        settings = {"url": redis.url(), "incidents": str(self._file), "notify": notify}
        (folder / "settings.json").write_text(json.dumps(settings))
        self.instances = [self._start(number) for number in range(3)]
        receivers.kill = self.kill_leader

    def _start(self, number: int) -> OwnProcess:
        command = [sys.executable, "-m", "tests.support.teller", str(self.folder / "settings.json")]
        return OwnProcess(command, self.folder / f"{number}.log", cwd=Path(__file__).parents[2])

    def put(self, *incidents: Incident) -> None:
        """Have these incidents beside those that there are."""
        self.incidents |= {one.id: one for one in incidents}
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(list(self.incidents.values())))
        new.replace(self._file)

    def _leading(self) -> int:
        return int(self.inside.redis.get(self.inside.keys.leader) or 0)

    def kill_leader(self) -> None:
        """Kill the instance that leads."""
        token = self._leading()
        who = json.loads(self.inside.redis.hget(self.inside.keys.instance(token), "who") or b"{}")
        (leader,) = [one for one in self.instances if one.pid == who["pid"]]
        self._killed = token
        leader.send(signal.SIGKILL)

    def start_killed(self) -> int:
        """Start those anew that were killed, as if the time of what they held were over; how many these are."""
        killed = [number for number, one in enumerate(self.instances) if not one.running]
        for number in killed:
            self.instances[number].wait()
            self._let_claims_end(self._killed)
            self.inside.let_lease_end(self._killed)
            self.instances[number] = self._start(number)
        return len(killed)

    def restart(self, store: PrivateRedis) -> None:
        """Restart the store, and wait for the next leader. Its token is new, so it makes the messages of the old one
        again when their time is over: as if it were.
        """
        before = self._leading()
        store.restart()
        wait_until(lambda: self._leading() not in (0, before), 60, "a leader after the restart", 0.02)
        self._let_claims_end(before)

    def _let_claims_end(self, token: int) -> None:
        key = self.inside.keys.notify_claims
        for name, raw in self.inside.redis.hgetall(key).items():
            claim = read_claim(raw)
            if claim is not None and claim.token == token:
                self.inside.redis.hset(key, name, pack_claim(msgspec.structs.replace(claim, at=0.0)))

    def failures(self, channel: str) -> int:
        """How often leaders have said that a channel takes no message."""
        logs = [log.read_text() for log in self.folder.glob("*.log")]
        lines = [line for log in logs for line in log.splitlines() if '"notification-failed"' in line]
        return sum(json.loads(line)["channel"] == channel for line in lines)

    def is_idle(self) -> bool:
        """Whether no message is under way."""
        return not self.inside.redis.exists(self.inside.keys.notify_claims)

    def end(self) -> None:
        for one in self.instances:
            one.kill()


def incident(number: int, phase: Phase = Phase.FIRING) -> Incident:
    at = time.time()
    return Incident(
        id=f"i{number:02}",
        kind=f"kind-{number:02}",
        key=f"celery@host{number}",
        severity=Severity.PAGE,
        phase=phase,
        since=at,
        changed=at,
        summary=f"worker celery@host{number} is lost",
    )


@pytest.fixture
def world(tmp_path: Path, own_redis: PrivateRedis) -> Iterator[tuple[World, PrivateAlertmanager]]:
    receivers = Receivers(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(receivers.http)
        stack.enter_context(receivers.mail)
        try:
            server = PrivateAlertmanager(receivers.http.url.removesuffix("/hook") + "/alertmanager")
        except ServiceMissing as error:
            missing(error)
        stack.enter_context(server)
        made = World(tmp_path, own_redis, receivers, server.url)
        stack.callback(made.end)
        yield made, server


def test_each_incident_is_told_once_and_its_end_once_however_often_leaders_are_killed(
    world: tuple[World, PrivateAlertmanager], own_redis: PrivateRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given twenty leaders that are killed in the middle of deliveries, a store that is restarted in the middle of
    others, and an Alertmanager, a mail server and a program that are away for one incident each, every channel hears of
    each incident and of its end. Alertmanager tells each once, and PagerDuty opens and closes each once; of the others,
    none hears anything more often than twice, and then under the same id.
    """
    here, alertmanager = world
    receivers = here.receivers
    victims = cycle(VICTIMS)
    for number in range(INCIDENTS):
        is_restart = number == RESTARTED
        receivers.victim = victim = "" if is_restart else next(victims)
        away = AWAY.get(number)
        if away is not None:
            failures = here.failures(away)
            receivers.go(away, alertmanager)
        here.put(incident(number), *([incident(number - 1, Phase.RESOLVED)] if number else []))
        if is_restart:
            receivers.wait_for("webhook", number, "firing")
            here.restart(own_redis)
        else:
            if victim == "exec":
                receivers.wait_for("exec", number, "firing")
                here.kill_leader()
            wait_until(here.start_killed, 60, f"the kill for incident {number}", 0.01)
        if away is not None:
            wait_until(lambda: here.failures(away) > failures, 60, f"that {away} is away", 0.05)  # noqa: B023
            receivers.come_back(away, alertmanager)
        for channel in CHANNELS:
            receivers.wait_for(channel, number, "firing")
            if number:
                receivers.wait_for(channel, number - 1, "resolved")
        wait_until(here.is_idle, 60, "the last message to be told", 0.05)
    here.put(incident(INCIDENTS - 1, Phase.RESOLVED))
    for channel in CHANNELS:
        receivers.wait_for(channel, INCIDENTS - 1, "resolved")
    wait_until(here.is_idle, 60, "the last message to be told", 0.05)

    rows = {channel: row_of(channel, receivers.words) for channel in CHANNELS}
    table = [
        f"{KILLS} kills of the leader, and one start anew each of redis, {', '.join(AWAY.values())}:",
        f"{'channel':14}{'told':>6}{'resolved':>10}{'repeats':>9}{'most of one':>13}{'ids of one':>12}",
    ]
    for name, row in rows.items():
        table.append(f"{name:14}{row.told:>6}{row.resolved:>10}{row.repeats:>9}{row.most:>13}{row.ids:>12}")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(table) + "\n")
    for channel, row in rows.items():
        assert (row.told, row.resolved) == (INCIDENTS, INCIDENTS), channel
        assert row.ids == 1, channel
        assert row.most <= (2 if channel not in IDEMPOTENT else 1), channel


class Row(NamedTuple):
    """What a receiver heard."""

    told: int
    """Incidents of which it was told that they fire."""
    resolved: int
    repeats: int
    """Messages that said what one before had said."""
    most: int
    """Most times that it heard the same; for one that is idempotent, most times that it told people."""
    ids: int
    """Most ids under which it heard the same."""


def row_of(channel: str, words: list[Word]) -> Row:
    own = [word for word in words if word.channel == channel]
    times = Counter((word.incident, word.phase) for word in own)
    told = times
    if channel == "pagerduty":  # opens what is not open, and closes what is
        open_, told = set[str](), Counter()
        for word in own:
            is_change = (word.phase == "firing") is not (word.incident in open_)
            told[word.incident, word.phase] += is_change
            open_ ^= {word.incident} if is_change else set()
    ids = {key: {word.id for word in own if (word.incident, word.phase) == key} for key in times}
    return Row(
        sum(1 for _, phase in times if phase == "firing"),
        sum(1 for _, phase in times if phase == "resolved"),
        len(own) - len(times),
        max(told.values()),
        max(map(len, ids.values())),
    )

"""The last hour of a shop that does not do well, as events: for looking at pages, and for their pictures. The same each
time, but for the time at which it ends.

A queue is late, a worker is lost with tasks that others ran again, a name fails since half an hour ago with one error
in two places, and orders are workflows of several tasks.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

from tests.support.recording import Recorded

Body = dict[str, Any]
WORKERS = ("celery@app1", "celery@app2", "celery@app3", "mail@app1")
LOST = "celery@app4"
HOUR = 3600.0
BROKEN = 1500.0
"""Seconds before the end, from which on cards are declined."""
LATE = 1080.0
"""Seconds for which the oldest mail waits."""
PLACE = """Traceback (most recent call last):
  File "/srv/venv/lib/python3.11/site-packages/celery/app/trace.py", line 479, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/shop/shop/cards.py", line 88, in {function}
    raise PermissionError(f"card of order {{order}} was declined")
PermissionError: card of order {order} was declined
"""


class Shop:
    """Makes the events of tasks."""

    def __init__(self, now: float, seed: int = 7) -> None:
        """:param now: when it ends, seconds since the epoch."""
        self.now = now
        self._chance = random.Random(seed)
        self._clock = 0
        self.events: list[Body] = []

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def event(self, kind: str, at: float, hostname: str, **fields: Any) -> None:
        """Add an event."""
        self._clock += 1
        own = {"hostname": hostname, "utcoffset": 0, "pid": 4000 + len(hostname), "clock": self._clock, "freq": 2.0}
        self.events.append({"type": kind, "timestamp": round(at, 6), **own, **fields})

    def task(
        self,
        name: str,
        at: float,
        *,
        wait: float = 0.02,
        run: float = 0.05,
        queue: str = "celery",
        worker: str = "",
        root: str = "",
        parent: str = "",
        fails: str = "",
        retries: int = 0,
        until: str = "ended",
        task_id: str = "",
        **more: Any,
    ) -> tuple[str, float]:
        """The events of a task; returns its id and when it ended.

        :param fails: the function in which it fails; empty if it does not.
        :param until: what it gets to: `sent`, `received`, `started` or `ended`.
        """
        task_id = task_id or self.new_id()
        worker = worker or self._chance.choice(WORKERS[:3])
        ids = {"uuid": task_id, "root_id": root or task_id, "parent_id": parent or None}
        order = self._chance.randrange(1000, 99999)
        about = {"name": name, "args": f"({order},)", "kwargs": "{}", "eta": None, "expires": None, **more}
        self.event(
            "task-sent", at, "gen8211@web3", **ids, **about, retries=0, queue=queue, exchange="", routing_key=queue
        )
        steps = ("sent", "received", "started", "ended")
        started = at + wait
        for attempt in range(retries + 1):
            if steps.index(until) >= 1:
                self.event("task-received", started - min(wait, 0.01), worker, **ids, **about, retries=attempt)
            if steps.index(until) >= 2:
                self.event("task-started", started, worker, uuid=task_id)
            if attempt < retries:
                reason = {"exception": "ConnectionError('carrier does not answer')", "traceback": ""}
                self.event("task-retried", started + run, worker, uuid=task_id, **reason)
                started += run + 2.0
        ended = started + run
        if until == "ended" and fails:
            text = PLACE.format(function=fails, order=order)
            exception = f"PermissionError('card of order {order} was declined')"
            self.event("task-failed", ended, worker, uuid=task_id, exception=exception, traceback=text)
        elif until == "ended":
            self.event("task-succeeded", ended, worker, uuid=task_id, result="None", runtime=run)
        return task_id, ended

    def order(self, at: float, *, fails: bool = False, worker: str = "") -> str:
        """A workflow; returns the id of its root."""
        chance = self._chance
        root, ended = self.task("shop.checkout", at, run=chance.uniform(0.02, 0.06), worker=worker)
        of_it: Body = {"root": root, "parent": root}
        self.task("shop.reserve_stock", ended, run=chance.uniform(0.08, 0.2), worker=worker, **of_it)
        function = "charge" if chance.random() < 0.8 else "charge_again"
        card, paid = self.task(
            "shop.charge_card",
            ended,
            run=chance.uniform(0.05, 0.3),
            fails=function if fails else "",
            worker=worker,
            **of_it,
        )
        parcel, booked = self.task(
            "shop.book_parcel", ended + 0.01, run=0.04, retries=int(chance.random() < 0.1), worker=worker, **of_it
        )
        if not fails:
            self.task("shop.send_receipt", paid, run=0.03, root=root, parent=card, worker=worker)
            self.task("shop.print_label", booked + 0.2, wait=0.4, run=0.9, root=root, parent=parcel, worker=worker)
        return root

    def hour(self, orders: int = 300) -> str:
        """All of it; returns the id of an order that a lost worker had."""
        chance, now = self._chance, self.now
        for number in range(orders):
            at = now - HOUR + HOUR * (number + chance.random()) / orders * 0.995
            bad = at > now - BROKEN and chance.random() < 0.3
            self.order(at, fails=bad)
            if number % 3 == 0:
                slow = 0.6 if at < now - LATE else 2.5 + 3 * (at - now + LATE) / LATE
                self.task("mail.send", at, wait=chance.uniform(0.1, 2), run=slow, queue="mail", worker="mail@app1")
            if number % 60 == 0:
                self.task("reports.nightly", at, wait=3, run=chance.uniform(25, 70), queue="reports")
        for number in range(240):
            at = now - LATE + LATE * number / 240
            self.task("mail.send", at, queue="mail", until="sent")
        for number in range(9):
            self.task("reports.nightly", now - 40 + number, wait=1, queue="reports", until="started")
        lost = now - 250
        root, ended = self.task("shop.checkout", lost - 2, run=0.04)
        card = self.new_id()
        of_it: Body = {"root": root, "parent": root, "task_id": card}
        self.task("shop.reserve_stock", ended, run=0.12, root=root, parent=root)
        self.task("shop.charge_card", ended, worker=LOST, until="started", **of_it)
        self.event(
            "task-received", lost + 14, WORKERS[0], uuid=card, name="shop.charge_card", root_id=root, parent_id=root
        )
        self.event("task-started", lost + 14.1, WORKERS[0], uuid=card)
        text = PLACE.format(function="charge", order=174)
        exception = "PermissionError('card of order 174 was declined')"
        self.event("task-failed", lost + 14.13, WORKERS[0], uuid=card, exception=exception, traceback=text)
        self.task("shop.book_parcel", ended + 0.01, run=0.041, root=root, parent=root)
        for number in range(4):
            self.task(
                "shop.book_parcel", lost - 1 + number / 10, worker=LOST, until="started" if number < 2 else "received"
            )
        for worker in (*WORKERS, LOST):
            self.heartbeat(worker, now)
        return card

    def heartbeat(self, worker: str, at: float) -> None:
        """A sign of life."""
        software = {"sw_ident": "py-celery", "sw_ver": "5.6.0", "sw_sys": "Linux"}
        load = [0.42, 0.51, 0.48]
        self.event(
            "worker-heartbeat",
            at,
            worker,
            active=len(worker) % 5 + 1,
            processed=18240,
            loadavg=load,
            **software,
        )

    def messages(self) -> Iterator[Recorded]:
        """All events so far as messages, in order of time, and none again."""
        events, self.events = sorted(self.events, key=lambda one: one["timestamp"]), []
        for one in events:
            yield recorded(one)


def recorded(event: Body) -> Recorded:
    """An event as a worker sends it."""
    key = str(event.get("type", "")).replace("-", ".")
    return Recorded(key, "application/json", "utf-8", json.dumps(event))

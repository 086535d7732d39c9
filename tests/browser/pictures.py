"""Takes pictures of all pages over a shop that does not do well: `python -m tests.browser.pictures FOLDER`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from shutil import which
from typing import NamedTuple
from urllib.parse import quote

from tests.support.browser import PHONE, WIDE, Browser
from tests.support.pages import PagesBed
from tests.support.process import wait_until
from tests.support.services import PrivateRedis
from tests.support.shop import LOST

MOST_BYTES = 150_000


class Picture(NamedTuple):
    """One picture."""

    name: str
    path: str
    """`{card}` stands for a task that failed after its worker was lost."""
    most: int = 1100
    """Pixels of its height."""


PAGES = (
    Picture("overview", "/"),
    Picture("problems", "/problems"),
    Picture("tasks", "/tasks?filter=state%3DFAILURE", 800),
    Picture("task", "/tasks/{card}", 1300),
    Picture("errors", "/errors"),
    Picture("queues", "/queues"),
    Picture("queue", "/queues/mail", 900),
    Picture("workers", "/workers"),
    Picture("worker", f"/workers/{quote(LOST)}"),
    Picture("names", "/names"),
    Picture("name", "/names/shop.charge_card", 900),
    Picture("monitor", "/monitor"),
    Picture("tail", "/tail", 700),
)
LOOKS = {"light": (WIDE, False), "dark": (WIDE, True), "phone": (PHONE, True)}


def main(folder: Path) -> None:
    """Take all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, PrivateRedis() as redis, PagesBed(Path(work), redis, size=3) as bed:
        card = bed.fill(300)
        bed.live(lost=True)
        time.sleep(2)  # a worker that was heard of only once is not known to be lost
        bed.live(lost=True)
        _wait_for_incidents(bed)
        with Browser() as browser:
            for look, (size, dark) in LOOKS.items():
                browser.look(size=size, dark=dark)
                for one in PAGES:
                    bed.live()
                    browser.open(bed.url + one.path.format(card=card))
                    if one.name == "tail":
                        browser.wait(partial(_is_followed, bed, browser), "the tail", 120)
                        time.sleep(3)  # until no row is marked as new any more
                    path = folder / f"{one.name}-{look}.png"
                    browser.picture(path, most=one.most)
                    _make_small(path)
                    size_of = path.stat().st_size
                    sys.stdout.write(f"{path}  {size_of:,} bytes{'  TOO LARGE' if size_of > MOST_BYTES else ''}\n")
                    sys.stdout.flush()


def _is_followed(bed: PagesBed, browser: Browser) -> bool:
    _announce(bed)
    time.sleep(1)
    return len(browser.all("#tail tbody tr")) > 5


def _make_small(path: Path) -> None:
    """Leave as many colours as a page has; without the program for that it stays as it is."""
    program = which("pngquant")
    if program is not None:
        subprocess.run([program, "--force", "--ext", ".png", "--speed", "1", "96", str(path)], check=True)


def _wait_for_incidents(bed: PagesBed) -> None:
    """Until the lost worker and the late queue are told of: six minutes, as a queue is late after five."""

    def told() -> bool:
        bed.live()
        _announce(bed)
        text = bed.get("/problems")[1]
        return "Worker lost" in text and "Queue late</strong>\n" in text

    wait_until(told, 600, "the incidents of the lost worker and the late queue", interval=2)


def _announce(bed: PagesBed) -> None:
    bed.shop.order(time.time() - 6, fails=int(time.time()) % 3 == 0)
    bed.publish(bed.shop.messages())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

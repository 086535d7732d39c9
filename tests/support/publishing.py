"""A load in the background, and an account of what it was."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from tests.support.ledger import Published
from tests.support.recording import Recorded, publish


class Load:
    """Publishes messages in a thread until they are all out, or until it is told to stop."""

    def __init__(self, url: str, messages: Iterable[Recorded], rate: float) -> None:
        """:param rate: messages a second."""
        self.published = Published()
        self._messages = messages
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(url, rate), daemon=True)
        self._thread.start()

    def finish(self) -> Published:
        """Wait until all is published, and return what it was."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.published

    def so_far(self) -> Published:
        """What is published by now, or just being so."""
        published = Published()
        published.update(self.published)
        return published

    def stop(self) -> Published:
        """Publish no more, and return what was published."""
        self._stop.set()
        return self.finish()

    def _run(self, url: str, rate: float) -> None:
        try:
            publish(url, self._noted(), rate)
        except BaseException as error:
            self._error = error

    def _noted(self) -> Iterator[Recorded]:
        for message in self._messages:
            if self._stop.is_set():
                return
            self.published.add(message)
            yield message

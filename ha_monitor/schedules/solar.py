"""Schedules by the sun, as Celery's `solar` computes them; only users of these have the library that it needs."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

EVENTS = {
    *("dawn_astronomical", "dawn_nautical", "dawn_civil", "sunrise", "solar_noon", "sunset"),
    *("dusk_civil", "dusk_nautical", "dusk_astronomical"),
}
EXPECTED_PLACE = "expected a latitude from -90 to 90 and a longitude from -180 to 180"


class Solar:
    """Due at an event of the sun. Times are in seconds since the epoch."""

    is_absolute = True

    def __init__(self, event: str, latitude: float, longitude: float) -> None:
        """
        :param event: by Celery's name, such as `sunset`.
        :raises ValueError: if there is no such event or place, or if the library is not installed; the text says so.
        """
        if event not in EVENTS:
            raise ValueError(f"expected an event of the sun: {', '.join(sorted(EVENTS))}")
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
            raise ValueError(EXPECTED_PLACE)
        self.text = f"{event} at {latitude:g}, {longitude:g}"
        # Celery takes a third of a second to import, so only schedules by the sun import it.
        from celery.exceptions import ImproperlyConfigured  # noqa: PLC0415
        from celery.schedules import solar  # noqa: PLC0415

        self._now = datetime.now(UTC)
        try:
            application = SimpleNamespace(timezone=UTC, conf=SimpleNamespace(enable_utc=True))
            self._solar = solar(event, latitude, longitude, app=application, nowfun=lambda: self._now)
        except ImproperlyConfigured:
            raise ValueError("schedules by the sun need the Python package ephem") from None

    def next_after(self, at: float) -> float | None:
        """The first due time after a time."""
        self._now = datetime.fromtimestamp(at, UTC)
        remaining: float = self._solar.remaining_estimate(self._now).total_seconds()
        return at + remaining if remaining > 0 else None

    def unsure(self, _due: float, /) -> float:
        """Seconds by which a run may be off: always 0."""
        return 0.0

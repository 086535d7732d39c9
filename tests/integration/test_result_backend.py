"""Results are read from where Celery's own backend has put them."""

from __future__ import annotations

from typing import Any

import pytest

from ha_monitor.backend.results import Result, ResultBackend
from ha_monitor.config.schema import ResultBackend as Settings
from tests.support.celery_app import make_app


@pytest.mark.parametrize("options", [{}, {"global_keyprefix": "shop_"}], ids=["by default", "below a prefix"])
def test_a_result_is_found_where_celery_has_put_it(result_url: str, options: dict[str, Any]) -> None:
    """Given applications whose results are stored with some transport options, they are read with the same ones."""
    app = make_app("memory://", result_url, result_backend_transport_options=options)
    app.backend.store_result("a", 42, "SUCCESS")
    app.backend.store_result("b", KeyError("no such thing"), "FAILURE", traceback="Traceback")

    found = ResultBackend(Settings(url=result_url, transport_options=options)).results(["a", "b", "c"])

    assert isinstance(found["a"], Result)
    assert (found["a"].event_type, found["a"].fields) == ("task-succeeded", {"result": "42"})
    assert isinstance(found["b"], Result)
    assert (found["b"].event_type, found["b"].fields["exception"]) == ("task-failed", "KeyError('no such thing')")
    assert found["c"] is None

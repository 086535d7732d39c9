"""What is shown of the answer of a service."""

from __future__ import annotations

import pytest

from ha_monitor.notify.channel import Refused
from ha_monitor.notify.http import MAX_SHOWN, Answer, _require_success, without_url_secrets

URL = "https://hooks.example/services/T0AAAA/B0BBBB/x7kQp2mZr9"


@pytest.mark.parametrize(
    ("url", "answer", "shown"),
    [
        pytest.param(
            URL, "<pre>Cannot POST /services/T0AAAA/B0BBBB/x7kQp2mZr9</pre>", "<pre>Cannot POST ***</pre>", id="path"
        ),
        pytest.param(
            URL, r'{"path":"\/services\/T0AAAA\/B0BBBB\/x7kQp2mZr9"}', '{"path":"***"}', id="escaped in JSON"
        ),
        pytest.param(URL, f"404 at {URL}", "404 at https://hooks.example***", id="whole URL"),
        pytest.param(URL, "no token x7kqp2mzr9", "no token ***", id="a piece of it, in lower case"),
        pytest.param(
            URL, "login?next=%2Fservices%2FT0AAAA%2FB0BBBB%2Fx7kQp2mZr9", "login?next=%2F***%2FT0AAAA%2FB0BBBB%2F***",
            id="encoded",
        ),
        pytest.param(
            "https://api.example/send?room=ops&key=hunter22&to=me", "bad key hunter22 for ops",
            "bad key *** for ops", id="of the query",
        ),
        pytest.param(
            "https://api.example/bot1234567%3AAbc.dEf.gHi/send", "bot1234567:Abc.dEf.gHi is gone", "*** is gone",
            id="decoded",
        ),
        pytest.param("http://am:9093", "POST / is not known", "POST / is not known", id="nothing to hide"),
        pytest.param(URL, "channel_is_archived", "channel_is_archived", id="nothing of it"),
    ],
)  # fmt: skip
def test_no_answer_shows_a_path_that_may_be_secret(url: str, answer: str, shown: str) -> None:
    """Given a service that names the path that it was asked for, however it writes it, the path is not shown; the rest
    of its answer is."""
    assert without_url_secrets(url, answer) == shown


def test_no_answer_shows_the_beginning_of_a_secret() -> None:
    """Given an answer that is truncated in the middle of the path, what is left does not show a piece of it."""
    answer = "x " * (MAX_SHOWN // 2 - 5) + "at x7kQp2mZr9"

    with pytest.raises(Refused) as raised:
        _require_success(Answer(404, answer.encode()), URL)

    assert str(raised.value) == "https://hooks.example: it answers 404: " + "x " * (MAX_SHOWN // 2 - 5) + "at ***"

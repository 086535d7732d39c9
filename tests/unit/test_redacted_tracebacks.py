"""However a secret in a traceback is written, no frame after it is hidden, and no cause."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ha_monitor.config.schema import DEFAULT_REDACTED
from ha_monitor.text.secrets import SecretFinder

KEYS = [
    *("password=%s", "password = %s", "password: %s", "'password': %s", "{'password': %s", '{"token": %s,'),
    *("login(token=%s)", "api_key=%s, user='bob'", "--password %s", "Authorization: %s", "mysql -p%s"),
    *("curl -u bob:%s", "('password', %s", "password is %s", "token=%s&x=1", "password='%s", "secret\n    = %s"),
]
VALUES = [
    # With no quotation mark, or with one that does not begin the value.
    *("hunter2", "hunter2'", 'hunter2"', "it's hunter2", "hunter2;", "hunter2 if y else 'z'", "None # don't"),
    *("Bearer hunter2'", "os.environ['hunter2']", "hunter2\\"),
    # With one that has no end, or brackets without one, as where the line of a source goes on.
    *("'hunter2", '"hunter2', '"""hunter2', "'''hunter2", 'f"{hunter2', "b'hunter2", "\\'hunter2", '\\"hunter2'),
    *("get('hunter2", 'get("hunter2', "{'a': 'hunter2", '["hunter2",', '("hunter2"', "'hunter2' +", "'hunter2\\'"),
]  # fmt: skip
FRAME = '  File "/srv/a.py", line 3, in pay\n    pay(\'x\', "y", don_t)\n'
BEGIN = "Traceback (most recent call last):\n"
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
LAST = "RuntimeError: it's \"over\" for 'bob'\n"
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a text in Python": repr,
    "in a text in JSON": json.dumps,
    "in a text in a text": lambda text: repr([repr(text)]),
    "in JSON in JSON": lambda text: json.dumps(json.dumps(text)),
}
finder = SecretFinder(DEFAULT_REDACTED)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("in_source", [True, False])
@pytest.mark.parametrize("key", KEYS)
def test_no_frame_is_hidden(key: str, in_source: bool, form: str) -> None:
    """Given a secret in a line of the source or in the message of the first exception, with any stray quotation marks
    and brackets, the secret is hidden, and all frames and the cause are there."""
    for value in VALUES:
        line = key % value
        if in_source:
            first = f'{FRAME}  File "/srv/s.py", line 9, in f\n    {line}\n{FRAME}ValueError: first\n'
        else:
            first = f"{FRAME}ValueError: {line}\n"
        text = FORMS[form](BEGIN + first + CAUSE + BEGIN + FRAME + LAST)

        shown = finder.hide(text)

        assert shown.count("/srv/a.py") == text.count("/srv/a.py"), (value, shown)
        assert "over" in shown, (value, shown)
        assert "The above exception was" in shown, (value, shown)
        assert shown.count("Traceback (most recent call last)") == 2, (value, shown)

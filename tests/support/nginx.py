"""An nginx of a test: in a folder of its own, with an example of the documentation in its only server."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.support.process import OwnProcess, ServiceMissing, free_port, wait_until
from tests.support.web import get

DOCUMENT = Path(__file__).parents[2] / "docs" / "web.md"
_WHOLE = """\
daemon off;
user {user};
error_log stderr;
pid {folder}/nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /test-is-up {{ return 204; }}
{example}
    }}
}}
"""


def documented(heading: str, places: Mapping[str, str]) -> str:
    """An example of the documentation.

    :param heading: the one below which it is the first block.
    :param places: what is elsewhere in a test, such as the port of the pages.
    """
    found = re.search(rf"### {heading}\n.*?\n```\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    text = found[1]
    for old, new in places.items():
        assert old in text
        text = text.replace(old, new)
    return text


class Nginx(OwnProcess):
    """Serves what stands in an example, on a port of 127.0.0.1."""

    def __init__(self, folder: Path, example: str) -> None:
        """:raises ServiceMissing: if there is no nginx here."""
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise ServiceMissing("nginx (Debian: nginx-light)")
        self.port = free_port()
        configuration = folder / "nginx.conf"
        user = getpass.getuser()  # its workers read what the test alone may read
        configuration.write_text(_WHOLE.format(user=user, folder=folder, port=self.port, example=example))
        super().__init__([program, "-e", "stderr", "-p", str(folder), "-c", str(configuration)], folder / "nginx.log")

    def wait_ready(self) -> Nginx:
        def answers() -> bool:
            assert self.running, self.output()
            try:
                return get(self.port, "/test-is-up").status == 204
            except OSError:
                return False

        wait_until(answers, 20, "nginx")
        return self

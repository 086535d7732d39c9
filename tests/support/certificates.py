"""Certificates for servers of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.machine import patient
from tests.support.process import program


class Certificate(NamedTuple):
    """Paths of PEM files."""

    ca: Path
    """The certificate of the authority that signed it."""
    cert: Path
    key: Path


def make_certificate(folder: Path, authority: str) -> Certificate:
    """A certificate for 127.0.0.1, by an authority of its own.

    :raises ServiceMissing: if OpenSSL is not installed.
    """
    openssl = program("openssl")
    ca, ca_key, cert, key, request = (
        folder / f"{authority}-{part}.pem" for part in ("ca", "ca-key", "cert", "key", "request")
    )
    extensions = folder / f"{authority}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    usage = "keyUsage=critical,keyCertSign,cRLSign"  # Python 3.13 insists on it
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]  # made at once, unlike RSA's
    for arguments in (
        [*new, "-x509", "-days", "2", "-subj", f"/CN={authority}", "-addext", usage, "-keyout", ca_key, "-out", ca],
        [*new, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", request],
        ["x509", "-req", "-days", "2", "-in", request, "-CA", ca, "-CAkey", ca_key,
         "-CAcreateserial", "-extfile", extensions, "-out", cert],
    ):  # fmt: skip
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True, timeout=patient(60))
    return Certificate(ca, cert, key)

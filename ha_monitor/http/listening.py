"""The address that a server listens on, and its certificate."""

from __future__ import annotations

import errno
import shlex
import socket
import ssl

from ha_monitor.errors import ConfigurationError
from ha_monitor.http.connections import BUFFER_SIZE, MAX_CONNECTIONS

PERMANENT_ERRORS = {errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT}
"""Permanent errors. An address or a name may appear later, at boot or by fail-over, and a port may become free."""


def host_and_port(listen: str) -> tuple[str, int] | None:
    """The two parts of `HOST:PORT`; None if there is no valid port."""
    host, _, port = listen.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        return None
    return host.strip("[]"), int(port)


def bind(host: str, port: int, backlog: int = MAX_CONNECTIONS) -> socket.socket:
    """A socket that listens at an address.

    :param backlog: clients that may wait to be accepted.
    :raises OSError: if the address cannot be used.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)  # of each connection
        listening.bind((host, port))
        listening.listen(backlog)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def tls_context(certificate: str, key: str, section: str) -> ssl.SSLContext:
    """The TLS context of a server: TLS 1.2 and later.

    :param section: section of the configuration that names both files.
    :raises ConfigurationError: if they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def no_passphrase() -> str:
        # OpenSSL would ask for it at the terminal, which a service does not have.
        raise ConfigurationError(
            f"{section}.tls_key = {key}: it is encrypted, and a service cannot be asked for its passphrase; write it "
            f"without: openssl pkey -in {shlex.quote(key)} -out …"
        )

    try:
        context.load_cert_chain(certificate, key, no_passphrase)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{section}.tls_certificate, {section}.tls_key: {error}") from None
    return context

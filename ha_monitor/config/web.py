"""The settings of the pages."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

_NETWORK = r"^[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?\Z"
_HOST = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})\Z"


class Web(Struct, forbid_unknown_fields=True, frozen=True):
    """The pages: a process of its own, `ha-monitor web`. See docs/web.md."""

    listen: Annotated[
        str,
        Meta(
            pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}\Z",
            title="host:port, such as 127.0.0.1:9550 or [::1]:9550",
            description="Address and port; beyond loopback only with username or user_header",
        ),
    ] = "127.0.0.1:9550"
    url: Annotated[
        str,
        Meta(
            pattern=r"^\Z|^https?://[^/?#\s]+(/[^?#\s]*)?\Z",
            title="a URL, such as https://monitor.example.org/celery",
            description="Public address of the pages; they are served below its path",
        ),
    ] = ""
    hosts: Annotated[
        list[Annotated[str, Meta(pattern=_HOST, title="the name of a host")]],
        Meta(max_length=100, description="Host names accepted besides that in url"),
    ] = field(default_factory=list)
    username: Annotated[str, Meta(description="User name required of readers; empty for none")] = ""
    password: Annotated[str, Meta(description="Password required of readers")] = ""
    user_header: Annotated[
        str,
        Meta(
            pattern=r"^\Z|^[A-Za-z][A-Za-z0-9-]{0,63}\Z",
            title="the name of a header field, such as X-Forwarded-User",
            description="Header with the user signed in by one of proxies; empty for none",
        ),
    ] = ""
    proxies: Annotated[
        list[Annotated[str, Meta(pattern=_NETWORK, title="an address or a network, such as 10.0.0.0/8")]],
        Meta(max_length=100, description="Addresses and networks of the reverse proxies whose headers are trusted"),
    ] = field(default_factory=list)
    tls_certificate: Annotated[str, Meta(description="PEM file with the certificate chain; empty for plain HTTP")] = ""
    tls_key: Annotated[str, Meta(description="PEM file with the certificate's key")] = ""

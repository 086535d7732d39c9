"""Mail, by SMTP."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import format_datetime
from hashlib import blake2b
from typing import Any

from ha_monitor.config.notify import Email, Secrets
from ha_monitor.errors import reason_of
from ha_monitor.notify.channel import Deadline, LoginRefused, NotDelivered, Refused, TryAgain
from ha_monitor.notify.http import open_socket, socket_error_text
from ha_monitor.notify.message import Message, lines_of, title_of

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_DOMAIN = "ha-monitor.invalid"
"""Domain of the Message-IDs: the program has no domain of its own."""
_MAX_LINE = 8192
"""Bytes of an answer line, as in smtplib."""


class EmailChannel:
    """See `channel.Channel`. A message that is retried has the same Message-ID, by which mail servers and mail programs
    drop duplicates.
    """

    def __init__(self, settings: Email, secrets: Secrets) -> None:
        self._settings = settings
        self._password = secrets.password
        self._port = settings.port or _PORTS[settings.tls]
        self._place = f"{settings.host}:{self._port}"

    def deliver(self, message: Message, deadline: Deadline) -> str:
        mail = mail_of(message, self._settings)
        with self._session(deadline) as session:
            session.maybe_taken = True
            refused = session.send_message(mail, self._settings.sender, list(self._settings.to))
            session.maybe_taken = False
        return f"{self._place}: it refuses {', '.join(sorted(refused))}; the others have it" if refused else ""

    def probe(self, deadline: Deadline) -> str:
        with self._session(deadline):
            return f"{self._place} answers" + (", and accepts the password" if self._settings.username else "")

    @contextmanager
    def _session(self, deadline: Deadline) -> Iterator[_Session]:
        """A session that is ready for a message. Raises `NotDelivered`, also for errors within the `with` block."""
        settings = self._settings
        session = _Session(deadline, self._place)
        context = ssl.create_default_context()
        try:
            session.open(settings.host, self._port, context if settings.tls == "tls" else None)
            session.ehlo_or_helo_if_needed()
            if settings.tls == "starttls":
                session.starttls(context=context)
                session.ehlo()
            if settings.username:
                session.login(settings.username, self._password)
            yield session
            with suppress(smtplib.SMTPException, OSError, NotDelivered):
                session.quit()
        except smtplib.SMTPRecipientsRefused as error:
            code, text = min(error.recipients.values())  # a temporary one, below 500, if there is one
            raise self._refusal(code, text) from None
        except smtplib.SMTPAuthenticationError as error:
            raise self._refusal(error.smtp_code, error.smtp_error, LoginRefused) from None
        except smtplib.SMTPResponseException as error:
            raise self._refusal(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPNotSupportedError as error:
            raise Refused(f"{self._place}: {reason_of(error)}") from None
        except ssl.SSLCertVerificationError as error:
            raise TryAgain(f"{self._place}: its certificate cannot be trusted: {error.verify_message}") from None
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise TryAgain(f"{self._place}: {socket_error_text(error)}", maybe_taken=session.maybe_taken) from None
        finally:
            session.close()

    def _refusal(self, code: int, said: bytes | str, lasting: type[NotDelivered] = Refused) -> NotDelivered:
        """:param lasting: what a lasting refusal is."""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        answer = f"{self._place}: it answers {code} {reason_of(ValueError(text), 200)}"
        return lasting(answer) if code >= 500 else TryAgain(answer, is_answer=True)


def mail_of(message: Message, settings: Email) -> EmailMessage:
    """The mail for a message. All mails about one incident form one thread."""
    mail = EmailMessage(policy=POLICY)
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Subject"] = f"[ha-monitor] {title_of(message)}"
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at, UTC))
    mail["Message-ID"] = _id_of(message.id)
    mail["References"] = _id_of(message.notices[0].incident.id)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Delivery-Id"] = message.id
    mail.set_content("\n".join(lines_of(message)) + "\n")
    return mail


def _id_of(text: str) -> str:
    return f"<{blake2b(text.encode('utf-8', 'replace'), digest_size=16).hexdigest()}@{_DOMAIN}>"


class _Session(smtplib.SMTP):
    """An SMTP session that ends with the deadline, however slowly the other side talks."""

    def __init__(self, deadline: Deadline, place: str) -> None:
        # Set the local name, because asking a name server for it may take long.
        super().__init__(local_hostname=socket.gethostname() or "localhost")
        self._deadline = deadline
        self._place = place
        self.maybe_taken = False
        """Whether the message may have been taken if the connection breaks now."""

    def open(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Connect, with TLS from the start if a context is given."""
        self._host = host
        connection = open_socket(host, port, self._deadline, self._place)
        self.sock = connection
        if context is not None:
            connection.settimeout(self._left())
            self.sock = context.wrap_socket(connection, server_hostname=host)
        code, said = self.getreply()
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Lines(self.sock, self)
        return super().getreply()

    def send(self, s: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(self._left())
        super().send(s)

    def _left(self) -> float:
        return self._deadline.left(f"{self._place}: no answer", maybe_taken=self.maybe_taken)


class _Lines:
    """The file from which smtplib reads answers: each wait is limited by the time left until the deadline."""

    def __init__(self, connection: socket.socket, session: _Session) -> None:
        self._connection = connection
        self._session = session
        self._read = b""

    def readline(self, limit: int = _MAX_LINE) -> bytes:
        while b"\n" not in self._read and len(self._read) < limit:
            self._connection.settimeout(self._session._left())
            some = self._connection.recv(1024)
            if not some:
                break
            self._read += some
        end = self._read.find(b"\n") + 1 or len(self._read)
        found, self._read = self._read[: min(end, limit)], self._read[min(end, limit) :]
        return found

    def close(self) -> None:
        self._read = b""

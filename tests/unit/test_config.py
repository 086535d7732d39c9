"""The configuration: where it comes from, and the one line that says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ha_monitor.config import load as module
from ha_monitor.config.load import instance_name, load, read, settings
from ha_monitor.config.schema import Config, LogLevel, QueueType, StoreSettings
from ha_monitor.config.secrets import Scrubber
from ha_monitor.config.urls import BAD_HOST, BAD_PORT
from ha_monitor.errors import ConfigurationError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ha-monitor.toml"


def wrong(path: Path | None, environment: dict[str, str] | None = None, overlay: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environment or {}, overlay)
    return str(caught.value)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The folder of the units' configuration, with a file and two secrets."""
    places = SimpleNamespace(file=tmp_path / "ha-monitor.toml", credentials=tmp_path / "credentials")
    places.credentials.mkdir(0o700)
    places.file.write_text('node_id = "units"\n[store]\nurl = "redis://file/0"')
    (places.credentials / "broker_url").write_text("amqp://units//\n")
    (places.credentials / "store_url").write_text("redis://units/0\n")
    monkeypatch.setattr(module, "DEFAULT_FILE", places.file)
    monkeypatch.setattr(module, "CREDENTIALS", places.credentials)
    return places


@pytest.fixture
def nobody(host: SimpleNamespace) -> Iterator[None]:
    """This process may read the configuration, and not the secrets."""
    ways = (host.file, *host.file.parents)
    before = [
        (way, way.stat().st_mode & 0o7777) for way in ways if way.stat().st_uid == os.geteuid() and way != Path("/")
    ]
    for way, mode in before:
        way.chmod(mode | (0o111 if way.is_dir() else 0o444))
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    else:
        host.credentials.chmod(0)
    yield
    os.seteuid(user)
    host.credentials.chmod(0o700)
    for way, mode in before:
        way.chmod(mode)


def test_everything_has_a_default(file: Path) -> None:
    """Given an empty file, all settings have the documented defaults."""
    file.write_text("")

    assert load(file, {}) == Config()


def test_the_defaults_hold_where_no_file_is_named_or_installed() -> None:
    """Given no file at all, the program runs with its defaults."""
    assert load(None, {}) == Config()


def test_later_sources_win(file: Path, tmp_path: Path) -> None:
    """Given a key in file, overlay, credentials and environment, each of these wins over the one before it."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file.write_text('node_id = "file"\n[store]\nlease = 6\ntimeout = 7\nname_wait = 8\nprefix = "file"\n')
    overlay = tmp_path / "1.toml"
    overlay.write_text("[store]\ntimeout = 17\nname_wait = 18\nlease = 16\n")
    (credentials / "store_name_wait").write_text("28\n")
    (credentials / "store_lease").write_text("26\n")
    environment = {"CREDENTIALS_DIRECTORY": str(credentials), "HA_MONITOR_STORE_LEASE": "36"}

    store = load(file, environment, overlay).store

    assert (store.prefix, store.timeout, store.name_wait, store.lease) == ("file", 17, 28, 36)


def test_the_environment_names_the_file_and_the_command_line_wins(file: Path, tmp_path: Path) -> None:
    """Given $HA_MONITOR_CONFIG, that file is read, unless --config names another."""
    other = tmp_path / "other.toml"
    file.write_text('node_id = "from-environment"')
    other.write_text('node_id = "from-command-line"')
    environment = {"HA_MONITOR_CONFIG": str(file)}

    assert load(None, environment).node_id == "from-environment"
    assert load(other, environment).node_id == "from-command-line"


def test_an_overlay_need_not_exist(file: Path, tmp_path: Path) -> None:
    """Given no overlay for this instance, the file alone counts."""
    file.write_text('node_id = "shop"')

    assert load(file, {}, tmp_path / "none.toml").node_id == "shop"


def test_the_environment_knows_all_types() -> None:
    """Given variables for each type of value, they arrive as the types of the schema."""
    config = load(
        None,
        {
            "HA_MONITOR_QUEUE_TYPE": "classic",
            "HA_MONITOR_LOG_LEVEL": "debug",
            "HA_MONITOR_LOG_ARGUMENTS": "true",
            "HA_MONITOR_LOG_REDACT": "pin, iban",
            "HA_MONITOR_HANDLERS_MODULES": '["alerts", "tickets"]',
            "HA_MONITOR_BROKER_TLS": '{"ca_certs": "/ca.pem"}',
            "HA_MONITOR_BROKER_PREFETCH": "50",
            "HA_MONITOR_BATCH_TIME": "0.5",
        },
    )

    assert config.queue.type is QueueType.CLASSIC
    assert config.log.level is LogLevel.DEBUG
    assert config.log.arguments is True
    assert config.log.redact == ["pin", "iban"]
    assert config.handlers.modules == ["alerts", "tickets"]
    assert config.broker.tls == {"ca_certs": "/ca.pem"}
    assert config.broker.prefetch == 50
    assert config.batch.time == 0.5


def test_each_setting_has_a_variable_and_a_credential_of_its_own() -> None:
    """Given all settings, no two share a name outside the file."""
    names = [setting.variable for setting in settings()]

    assert len(set(names)) == len(names) == len({setting.credential for setting in settings()})
    assert "HA_MONITOR_BROKER_URL" in names


def test_an_empty_credential_counts_as_not_set(tmp_path: Path) -> None:
    """Given an empty credential file, as a package ships it, the default stays."""
    (tmp_path / "broker_url").write_text("\n")

    assert load(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).broker.url == Config().broker.url


def test_a_password_file_may_end_with_a_newline(tmp_path: Path) -> None:
    """Given a URL in a credential file with a newline at its end, the newline is not part of the URL."""
    (tmp_path / "store_url").write_text("redis://:hunter2@redis1:6379/0\n")

    assert load(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).store.url == "redis://:hunter2@redis1:6379/0"


def test_commands_find_what_the_units_use(host: SimpleNamespace) -> None:
    """Given the file and the secrets of the units, and no variable, a command has the values that an instance has, and
    can say where each comes from."""
    loaded = read(None, {})

    assert (loaded.config.node_id, loaded.config.broker.url) == ("units", "amqp://units//")
    assert loaded.config.store.url == "redis://units/0", "a secret wins over the file"
    assert loaded.origin_of("store.url") == f"store.url is from {host.credentials}/store_url"
    assert loaded.origin_of("result_backend.url").startswith("result_backend.url is the default: no file, credential")
    assert load(host.file, {}).broker.url == "amqp://units//", "the same file, named"


def test_another_file_is_another_configuration(host: SimpleNamespace, tmp_path: Path) -> None:
    """Given a file of one's own, by option or variable, the secrets of the units do not get into it."""
    own = tmp_path / "own.toml"
    own.write_text("")

    assert load(own, {}).broker.url == load(None, {"HA_MONITOR_CONFIG": str(own)}).broker.url == Config().broker.url
    assert load(own, {"CREDENTIALS_DIRECTORY": str(host.credentials)}).broker.url == "amqp://units//", "unless named"


@pytest.mark.usefixtures("nobody")
def test_secrets_that_a_user_may_not_read_are_named_with_the_cure(host: SimpleNamespace) -> None:
    """Given secrets that this user may not read, the line names them and what to do, instead of a default being used;
    a user who gives both URLs needs none of them."""
    urls = {"HA_MONITOR_BROKER_URL": "amqp://own//", "HA_MONITOR_STORE_URL": "redis://own/0"}

    assert wrong(None) == (
        f"{host.credentials}: this user may not read broker_url and store_url, which the instances of this host use: "
        "run the command as root, or set HA_MONITOR_BROKER_URL and HA_MONITOR_STORE_URL"
    )
    assert "may not read store_url, which" in wrong(None, {"HA_MONITOR_BROKER_URL": "amqp://own//"})
    assert load(None, urls).broker.url == "amqp://own//"


@pytest.mark.usefixtures("nobody")
def test_a_file_that_a_user_may_not_read_is_named_with_the_cure(host: SimpleNamespace) -> None:
    """Given a configuration in a folder that this user may not enter, the line names the file and what to do."""
    hidden = host.credentials / "hidden.toml"

    assert wrong(hidden) == f"{hidden}: this user may not read it; run the command as root"
    assert wrong(None, overlay=hidden) == f"{hidden}: this user may not read it; run the command as root"


def test_an_error_about_a_url_says_where_it_comes_from(host: SimpleNamespace) -> None:
    """Given an error of a part that knows only the key, the file, the variable or the default is named before it."""
    for environment, source in (
        ({}, f"{host.credentials}/store_url"),
        ({"HA_MONITOR_STORE_URL": "x"}, "environment: "),
    ):
        with pytest.raises(ConfigurationError) as caught, read(None, environment).naming_sources():
            raise ConfigurationError("store.url = x: expected y", "store.url")
        assert str(caught.value).startswith(source)
        assert str(caught.value).endswith(": store.url = x: expected y")


ONE_ADDRESS = 'expected one address, such as ops@example.org or "Ops, Shop" <ops@example.org>'
MISTAKES = [
    pytest.param(
        "[store]\nlease = 0.5\n",
        "{file}: store.lease = 0.5: expected a number >= 1.0",
        id="too small",
    ),
    pytest.param("[store]\nlease = 301\n", "{file}: store.lease = 301: expected a number <= 300.0", id="too large"),
    pytest.param("[store]\nlease = nan\n", "{file}: store.lease = nan: expected a number >= 1.0", id="not a number"),
    pytest.param(
        '[store]\nlease = "5"\n', "{file}: store.lease = 5: expected a number, got a text", id="text for a number"
    ),
    pytest.param(
        "[broker]\nprefetch = 1.5\n",
        "{file}: broker.prefetch = 1.5: expected a whole number, got a number",
        id="fraction",
    ),
    pytest.param(
        '[log]\nlevel = "loud"\n',
        "{file}: log.level = loud: expected one of debug, info, warning, error",
        id="no such choice",
    ),
    pytest.param(
        '[log]\narguments = "yes"\n',
        "{file}: log.arguments = yes: expected true or false, got a text",
        id="text for a flag",
    ),
    pytest.param(
        '[log]\nredact = ["ok", ""]\n', "{file}: log.redact[1] = : expected a text of length >= 1", id="inside a list"
    ),
    pytest.param(
        '[log]\nredact = "password"\n', "{file}: log.redact = password: expected a list, got a text", id="no list"
    ),
    pytest.param(
        '[stuck.tasks]\n"reports.*" = {started_after = -1}\n',
        "{file}: stuck.tasks = ***: expected a number >= 0.0",
        id="inside a table by names",
    ),
    pytest.param(
        '[stuck.tasks]\n"reports.*" = {after = 1}\n',
        "{file}: stuck.tasks.after: unknown key; expected one of sent_after, received_after, started_after",
        id="unknown key inside a table by names",
    ),
    pytest.param(
        '[result_backend]\nurl = "rpc://"\n',
        "{file}: result_backend.url = rpc://: expected a URL of another kind than rpc:// and amqp://",
        id="a result backend that cannot be read without taking away",
    ),
    pytest.param(
        '[broker]\nurl = "sentinel://:secret@h:26379"\n',
        "{file}: broker.url = sentinel://…: expected broker.transport_options with master_name, the name by which the "
        "sentinels know the Redis",
        id="a sentinel that is not told what is looked for",
    ),
    pytest.param("store = 5\n", "{file}: store = 5: expected a table, got a whole number", id="no table"),
    pytest.param(
        'node_id = "a b"\n',
        "{file}: node_id = a b: expected up to 100 letters, digits, and characters of _ . @ : -",
        id="pattern",
    ),
    pytest.param(
        "[batch]\nevent = 5\n",
        "{file}: batch.event: unknown key; expected one of events, time",
        id="unknown key in a table",
    ),
    pytest.param(
        "brokers = 1\n",
        "{file}: brokers: unknown key; expected one of batch, broker, handlers, http, log, metrics, node_id, notify, "
        "queue, redbeat, result_backend, schedules, store, stuck, web, workers",
        id="unknown key",
    ),
    pytest.param(
        '[notify.channels.chat]\ntype = "carrier pigeon"\n',
        "{file}: notify.channels.chat.type: expected one of alertmanager, pagerduty, webhook, email, exec, heartbeat",
        id="no such kind of channel",
    ),
    pytest.param(
        '[notify.channels.mail]\ntype = "email"\nto = ["a@b.org"]\n',
        "{file}: notify.channels.mail: expected sender",
        id="a channel that lacks a key",
    ),
    pytest.param(
        '[notify.channels.tell]\ntype = "exec"\ncommand = ["tell"]\nshell = true\n',
        "{file}: notify.channels.tell: unknown key shell; expected one of type, command",
        id="a channel with an unknown key",
    ),
    pytest.param(
        '[notify.channels.hook]\ntype = "webhook"\nurl = "https://user:hunter2@host/"\n',
        "{file}: notify.channels.hook.url: expected a URL such as https://host/path, without a password in it",
        id="a password in the URL of a channel",
    ),
    pytest.param(
        '[notify.channels."No Name"]\ntype = "exec"\ncommand = ["tell"]\n',
        "{file}: notify.channels.No Name: expected a name of up to 40 small letters, digits and -",
        id="a name of a channel",
    ),
    pytest.param(
        '[[notify.routes]]\nchannels = ["pager"]\n',
        "{file}: notify.routes[0].channels: no channel is called pager; there are none",
        id="a route to nowhere",
    ),
    pytest.param(
        '[[notify.routes]]\nchannel = ["pager"]\n',
        "{file}: notify.routes[0].channel: unknown key; expected one of channels, severity, kinds, names",
        id="unknown key in a route",
    ),
    pytest.param(
        '[notify.channels.alive]\ntype = "heartbeat"\n[[notify.routes]]\nchannels = ["alive"]\n',
        "{file}: notify.routes[0].channels: expected one that is told of incidents; alive is a heartbeat",
        id="a route to a heartbeat alone",
    ),
    pytest.param(
        '[notify.channels.hook]\ntype = "webhook"\nurl = "http://[::1/x"\n',
        f"{{file}}: notify.channels.hook.url: {BAD_HOST}",
        id="the URL of a channel without an end of its address",
    ),
    pytest.param(
        '[notify.channels.am]\ntype = "alertmanager"\nurls = ["http://am1:9093", "http://am2:99999"]\n',
        f"{{file}}: notify.channels.am.urls[1]: {BAD_PORT}",
        id="the port of a channel",
    ),
    pytest.param(
        '[notify.channels.alive]\ntype = "heartbeat"\nurl = "http://hc..example.org/x"\n',
        f"{{file}}: notify.channels.alive.url: {BAD_HOST}",
        id="the host of a channel",
    ),
    pytest.param(
        '[notify.channels.pager]\ntype = "pagerduty"\nurl = "https://:443/enqueue"\n',
        f"{{file}}: notify.channels.pager.url: {BAD_HOST}",
        id="a channel without a host",
    ),
    pytest.param(
        '[notify]\nbase_url = "http://pages:0/"\n',
        f"{{file}}: notify.base_url: {BAD_PORT}",
        id="the port of links",
    ),
    pytest.param(
        '[web]\nurl = "https://[::1/celery"\n',
        f"{{file}}: web.url: {BAD_HOST}",
        id="the URL of the pages",
    ),
    pytest.param(
        '[notify.channels.mail]\ntype = "email"\nto = ["a@b.org"]\nsender = "m@b.org"\nhost = "mail..b.org"\n',
        f"{{file}}: notify.channels.mail.host: {BAD_HOST}",
        id="the host of a mail server",
    ),
    pytest.param(
        '[notify.channels.mail]\ntype = "email"\nto = ["a@b.org"]\nsender = "Ops <ops@"\n',
        f"{{file}}: notify.channels.mail.sender: {ONE_ADDRESS}",
        id="a sender that is no address",
    ),
    pytest.param(
        '[notify.channels.mail]\ntype = "email"\nto = ["a@b.org", "c@d.org, e@f.org"]\nsender = "a@b.org"\n',
        f"{{file}}: notify.channels.mail.to[1]: {ONE_ADDRESS}",
        id="two addresses in one",
    ),
    pytest.param(
        '[notify.secrets.pager]\nkey = "hunter2"\n',
        "{file}: notify.secrets: expected in a file of its own that only root can read: put it as JSON into "
        "/etc/ha-monitor/credentials/notify_secrets",
        id="a secret where all can read it",
    ),
    pytest.param("[store]\nlease = \n", "{file}: not valid TOML: Invalid value (at line 2, column 9)", id="not TOML"),
    pytest.param(
        "[store]\nsuccess_ttl = 60\n",
        "{file}: store.success_ttl = 60: expected at least queue.message_ttl (43200), "
        "or a late redelivery could not be deduplicated",
        id="two keys together",
    ),
    pytest.param(
        "[store]\nfailure_ttl = 3600\n",
        "{file}: store.failure_ttl = 3600: expected at least queue.message_ttl (43200), "
        "or a late redelivery could not be deduplicated",
        id="failed tasks forgotten too soon",
    ),
    pytest.param(
        "[store]\ndetail_ttl = 90000\n",
        "{file}: store.detail_ttl = 90000: expected at most store.success_ttl (86400)",
        id="details kept for longer than the record",
    ),
    pytest.param(
        "[store]\ndetail_ttl = -1\n",
        "{file}: store.detail_ttl = -1: expected a number >= 0.0",
        id="details kept for less than nothing",
    ),
    pytest.param(
        "[broker]\nconnect_timeout = 5\n",
        "{file}: broker.connect_timeout = 5: expected at most 3, which is 3/5 of store.lease (5), "
        "or an instance that waits so long would lose its lease",
        id="connecting may take as long as the lease",
    ),
    pytest.param(
        "[store]\nlease = 2\n",
        "{file}: broker.connect_timeout = 2.5: expected at most 1.2, which is 3/5 of store.lease (2), "
        "or an instance that waits so long would lose its lease",
        id="a lease shorter than connecting may take",
    ),
    pytest.param(
        "[store]\ntimeout = 4\n",
        "{file}: store.timeout = 4: expected at most 3, which is 3/5 of store.lease (5), "
        "or an instance that waits so long would lose its lease",
        id="a call may take as long as the lease",
    ),
    *(
        pytest.param(
            f"[queue]\nmessage_ttl = 0.1\n[store]\n{key} = 0.5\n",
            f"{{file}}: store.{key} = 0.5: expected a number >= 1.0",
            id=f"{key} below what Redis can keep",
        )
        for key in ("success_ttl", "failure_ttl", "worker_ttl")
    ),
]


@pytest.mark.parametrize(("text", "line"), MISTAKES)
def test_a_mistake_in_the_file_is_one_exact_line(file: Path, text: str, line: str) -> None:
    """Given a mistake in the file, the error is one line with the file, the key, the value and what was expected."""
    file.write_text(text)

    assert wrong(file) == line.replace("{file}", str(file))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Given a file that is missing, is a folder or holds bytes that are no text, the error names it."""
    (tmp_path / "latin1.toml").write_bytes(b'node_id = "caf\xe9"')

    assert wrong(tmp_path / "none.toml") == f"{tmp_path}/none.toml: cannot be read: No such file or directory"
    assert wrong(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    assert wrong(tmp_path / "latin1.toml") == f"{tmp_path}/latin1.toml: cannot be read: it is not UTF-8 text"


def test_a_mistake_in_the_overlay_names_the_overlay(file: Path, tmp_path: Path) -> None:
    """Given a right file and a wrong overlay, the error names the overlay."""
    overlay = tmp_path / "1.toml"
    file.write_text("[store]\nlease = 6\n")
    overlay.write_text("[store]\ntimeout = 0\n")

    assert wrong(file, overlay=overlay) == f"{overlay}: store.timeout = 0: expected a number > 0.0"


ENVIRONMENT_MISTAKES = [
    (
        "HA_MONITOR_STORE_LEASE",
        "soon",
        "environment: HA_MONITOR_STORE_LEASE: store.lease = soon: expected a number, got a text",
    ),
    (
        "HA_MONITOR_QUEUE_TYPE",
        "fast",
        "environment: HA_MONITOR_QUEUE_TYPE: queue.type = fast: expected one of quorum, classic",
    ),
    (
        "HA_MONITOR_BROKER_TLS",
        "ca.pem",
        "environment: HA_MONITOR_BROKER_TLS: expected JSON for broker.tls, such as {}",
    ),
    (
        "HA_MONITOR_LEASE",
        "5",
        "environment: HA_MONITOR_LEASE: unknown variable; see `ha-monitor check --help` for the names",
    ),
]


@pytest.mark.parametrize(("variable", "value", "line"), ENVIRONMENT_MISTAKES)
def test_a_mistake_in_the_environment_is_one_exact_line(variable: str, value: str, line: str) -> None:
    """Given a mistake in a variable, the error is one line that names the variable."""
    assert wrong(None, {variable: value}) == line


def test_a_mistake_in_a_credential_names_its_file(tmp_path: Path) -> None:
    """Given a mistake in a credential, the error names the credential's file."""
    (tmp_path / "store_lease").write_text("0")

    assert wrong(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (
        f"{tmp_path}/store_lease: store.lease = 0: expected a number >= 1.0"
    )


def test_the_rule_between_two_keys_counts_wherever_they_come_from(file: Path) -> None:
    """Given a long message TTL in the environment only, the error names the source of the key to be changed."""
    file.write_text('node_id = "shop"')

    line = wrong(file, {"HA_MONITOR_QUEUE_MESSAGE_TTL": "100000"})

    assert line.startswith("environment: HA_MONITOR_QUEUE_MESSAGE_TTL: store.success_ttl = 86400: expected at least")


@pytest.mark.parametrize(
    "text",
    [
        '[broker]\nurl = ["amqp://user:hunter2@host//"]\n',
        '[broker]\nurl = {password = "hunter2"}\n',
        '[broker]\ntls = "password=hunter2"\n',
        '[broker.transport_options]\nsentinel_kwargs = {password = "hunter2"}\n[broker]\nport = 1\n',
        '[store]\nurl = {a = "redis://:hunter2@host/0"}\n',
    ],
)
def test_a_password_is_in_no_error(file: Path, text: str) -> None:
    """Given a mistake next to a password, the error does not show the password."""
    file.write_text(text)

    assert "hunter2" not in wrong(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('node_id = "a\\n"', "expected up to 100 letters, digits, and characters of _ . @ : -"),
        ("[http]\nlisten = 9540", "http.listen = 9540: expected host:port, such as 127.0.0.1:9540 or [::1]:954%i"),
        ('[http]\nlisten = "9540"', "http.listen = 9540: expected host:port, such as 127.0.0.1:9540 or [::1]:954%i"),
    ],
)
def test_what_must_look_like_something_is_said_in_words(file: Path, text: str, expected: str) -> None:
    """Given a value that does not fit its pattern, or is no text, the line says in words what does."""
    file.write_text(text)

    assert wrong(file).endswith(expected)


@pytest.mark.parametrize("name", ["1", "blue", "host:1", "a_b.c@d-e"])
def test_an_instance_has_a_name_that_units_can_have(name: str) -> None:
    """Given a name that can be a part of a unit's and a file's name, it stays as it is."""
    assert instance_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "x" * 101, "a\n", "é", "1\n"])
def test_an_instance_has_no_name_that_would_lead_elsewhere(name: str) -> None:
    """Given nothing, or what would lead to another file or spoil a line, the text says what is expected."""
    with pytest.raises(ValueError, match="expected up to 100 letters, digits"):
        instance_name(name)


@pytest.mark.parametrize(
    ("detail_ttl", "after"), [(0, None), (0.5, 1), (600, 600), (600.7, 600), (86399, 86399), (86400, None)]
)
def test_records_shrink_after_whole_seconds_or_never(detail_ttl: float, after: int | None) -> None:
    """Given `store.detail_ttl`, records shrink after so many whole seconds, one at least; with 0, or for as long as the
    record is kept, never."""
    assert StoreSettings(detail_ttl=detail_ttl).shrinks_after == after


@pytest.mark.parametrize(
    ("channel", "lacks"),
    [
        ('type = "webhook"', "expected a url, here or as the secret url"),
        ('type = "pagerduty"', "expected the secret key, which is the integration key of the service"),
    ],
)
def test_only_who_tells_somebody_needs_the_secrets_of_channels(file: Path, channel: str, lacks: str) -> None:
    """Given a channel whose secret cannot be read, as by a user who may only ask, the configuration is good for asking;
    whoever would use the channel is told what is missing."""
    file.write_text(f"[notify.channels.hook]\n{channel}\n")

    loaded = read(file, {})

    with pytest.raises(ConfigurationError) as raised:
        loaded.require_channels()
    assert str(raised.value) == f"{file}: notify.channels.hook: {lacks}"


def test_the_secrets_of_channels_come_as_a_credential_and_are_in_no_text(file: Path, tmp_path: Path) -> None:
    """Given secrets as a credential, the channels have them, and a text of a library shows none of them; one for a
    channel that there is not is a mistake that names it."""
    file.write_text('[notify.channels.pager]\ntype = "pagerduty"\n[notify.channels.chat]\ntype = "webhook"\n')
    given = tmp_path / "notify_secrets"
    given.write_text('{"pager": {"key": "integr8tion"}, "chat": {"url": "https://hooks.example/T0/hunter2"}}')
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    config = load(file, environment)

    assert config.notify.secrets_of("pager").key == "integr8tion"
    scrub = Scrubber(config)
    assert "integr8tion" not in scrub("refused integr8tion at https://hooks.example/T0/hunter2")
    assert "hunter2" not in scrub("refused at https://hooks.example/T0/hunter2")
    given.write_text('{"page": {"key": "hunter2"}}')
    assert wrong(file, environment) == f"{given}: notify.secrets: no channel is called page"
    given.write_text('{"pager": {"key": "integr8tion"}, "chat": {"url": "https://hooks..example/T0/hunter2"}}')
    assert wrong(file, environment) == f"{given}: notify.secrets.chat.url: {BAD_HOST}"

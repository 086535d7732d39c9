"""Loads files and the environment into a validated `Config`.

Later sources override earlier ones: defaults, the TOML file, the credentials, the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ha_monitor.config import schedules
from ha_monitor.config.notify import missing_in, problem_in, problem_of
from ha_monitor.config.paths import CREDENTIALS, DEFAULT_FILE
from ha_monitor.config.schema import Config, Name
from ha_monitor.config.secrets import mask
from ha_monitor.config.type_words import in_words
from ha_monitor.config.urls import http_problem_of
from ha_monitor.errors import ConfigurationError

PREFIX = "HA_MONITOR_"
FILE_VARIABLE = "HA_MONITOR_CONFIG"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
REQUIRED = ("broker.url", "store.url")
"""The settings without which a command would use another broker or store than the instances do."""

_PAIRS = (("username", "password"), ("tls_certificate", "tls_key"))
"""Settings of a server that are useless without each other."""


class Setting(NamedTuple):
    """One key of the configuration, with its names as a credential and an environment variable."""

    section: str
    """Empty for a key at the top level."""
    key: str
    type: Any

    @property
    def dotted(self) -> str:
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def credential(self) -> str:
        """File name in `$CREDENTIALS_DIRECTORY`, such as `broker_url`."""
        return self.dotted.replace(".", "_")

    @property
    def variable(self) -> str:
        """Environment variable, such as `HA_MONITOR_BROKER_URL`."""
        return PREFIX + self.credential.upper()


def settings() -> list[Setting]:
    """All keys, in the order of the schema."""
    found = []
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += [Setting(field.name, inner.name, inner.type) for inner in msgspec.structs.fields(field.type)]
        else:
            found.append(Setting("", field.name, field.type))
    return found


class Loaded(NamedTuple):
    """A configuration, and where its values come from."""

    config: Config
    sources: Mapping[str, str]
    """Key → file or variable. A key without an entry has its default."""

    def origin_of(self, key: str) -> str:
        """Where the value of a key comes from, in words."""
        if key in self.sources:
            return f"{key} is from {self.sources[key]}"
        return f"{key} is the default: no file, credential or variable sets it"

    def require_channels(self) -> None:
        """Check that the channels can be used. Required by commands that send messages or report that all is well.

        :raises ConfigurationError: if a channel lacks something, such as a secret that cannot be read.
        """
        if (problem := missing_in(self.config.notify)) is not None:
            raise ConfigurationError(f"{self.sources.get('notify.channels', 'the configuration')}: {problem}")

    @contextmanager
    def naming_sources(self) -> Iterator[None]:
        """Adds to an error about a setting where that setting comes from."""
        try:
            yield
        except ConfigurationError as error:
            if not error.key:
                raise
            raise ConfigurationError(f"{self.sources.get(error.key, 'the default')}: {error}") from None


def load(path: Path | None, environment: Mapping[str, str], overlay: Path | None = None) -> Config:
    """The configuration alone; see `read`."""
    return read(path, environment, overlay).config


def read(
    path: Path | None,
    environment: Mapping[str, str],
    overlay: Path | None = None,
    *,
    servers: Sequence[str] = ("http",),
) -> Loaded:
    """Read, merge and validate the configuration.

    :param path: the file named on the command line, or None for `$HA_MONITOR_CONFIG` or the default file.
    :param environment: the process's environment.
    :param overlay: a second file, applied over the first one when it exists.
    :param servers: sections of servers whose secrets are required; those of other processes are not.
    :raises ConfigurationError: in one line, with file (or variable), key, value and what was expected.
    """
    chosen = path or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    data: dict[str, Any] = {}
    sources: dict[str, str] = {}
    _merge_file(data, sources, chosen or DEFAULT_FILE, optional=chosen is None)
    if overlay is not None:
        _merge_file(data, sources, overlay, optional=True)
    if directory := environment.get(CREDENTIALS_VARIABLE):
        _merge_credentials(data, sources, environment, Path(directory))
    elif chosen in {None, DEFAULT_FILE}:
        # Another file is another configuration; the secrets of this host's units do not belong to it.
        _merge_credentials(data, sources, environment, CREDENTIALS)
    _merge_environment(data, sources, environment)
    config = _convert(data, Config, lambda at: sources.get(at) or sources.get(at.split(".")[0], "the configuration"))
    _check_together(config, sources, servers)
    return Loaded(config, sources)


def _merge_file(data: dict[str, Any], sources: dict[str, str], path: Path, *, optional: bool) -> None:
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except PermissionError:
        raise ConfigurationError(f"{path}: this user may not read it; run the command as root") from None
    except (OSError, UnicodeDecodeError) as error:
        if optional and isinstance(error, FileNotFoundError):
            return
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{path}: cannot be read: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    known = {field.name for field in msgspec.structs.fields(Config)}
    for key, value in parsed.items():
        if key not in known:
            raise ConfigurationError(f"{path}: {key}: unknown key; expected one of {', '.join(sorted(known))}")
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            data[key].update(value)
        else:
            data[key] = value
        sources[key] = str(path)
        if isinstance(value, dict):
            sources.update({f"{key}.{inner}": str(path) for inner in value})


def _merge_credentials(
    data: dict[str, Any], sources: dict[str, str], environment: Mapping[str, str], directory: Path
) -> None:
    """:raises ConfigurationError: if a needed credential cannot be read, and no environment variable replaces it."""
    # If the folder itself cannot be searched, it is unknown which credentials exist.
    searchable, hidden = os.access(directory, os.X_OK, effective_ids=True), []
    for setting in settings():
        file = directory / setting.credential
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            if (searchable or setting.dotted in REQUIRED) and setting.variable not in environment:
                hidden.append(setting)
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file}: cannot be read: {error}") from None
        # An empty credential file means "not set", so that a package can ship one.
        if text:
            _put(data, sources, setting, text, str(file))
    if hidden:
        files = " and ".join(setting.credential for setting in hidden)
        raise ConfigurationError(
            f"{directory}: this user may not read {files}, which the instances of this host use: run the command as "
            f"root, or set {' and '.join(setting.variable for setting in hidden)}"
        )


def _merge_environment(data: dict[str, Any], sources: dict[str, str], environment: Mapping[str, str]) -> None:
    by_variable = {setting.variable: setting for setting in settings()}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE:
            continue
        setting = by_variable.get(variable)
        if setting is None:
            raise ConfigurationError(
                f"environment: {variable}: unknown variable; see `ha-monitor check --help` for the names"
            )
        _put(data, sources, setting, environment[variable], f"environment: {variable}")


def _put(data: dict[str, Any], sources: dict[str, str], setting: Setting, text: str, source: str) -> None:
    value = _from_text(text, setting, source)
    if setting.section:
        section = data.setdefault(setting.section, {})
        if not isinstance(section, dict):
            return  # the error about this section of the file is reported instead
        section[setting.key] = value
    else:
        data[setting.key] = value
    sources[setting.dotted] = source


def _from_text(text: str, setting: Setting, source: str) -> Any:
    """Convert the text of a variable or credential to the type of its key."""
    value: Any = text
    kind = _plain_type(setting.type)
    if isinstance(kind, msgspec.inspect.ListType) and not text.lstrip().startswith("["):
        value = [part.strip() for part in text.split(",") if part.strip()]
    elif isinstance(kind, msgspec.inspect.ListType | msgspec.inspect.DictType):
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise ConfigurationError(f"{source}: expected JSON for {setting.dotted}, such as {{}}") from None
    try:
        return msgspec.convert(value, setting.type, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{source}: {setting.dotted} = {mask(setting.dotted, text)}: {_expected(error, setting.dotted)}"
        ) from None


def _convert(data: dict[str, Any], kind: type[Config], source_of: Any) -> Config:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).replace(" - at `key` in `$", " - at `$").partition(" - at `$")
        # For a table with free names the error does not say which entry is wrong, only [...].
        at = where.rstrip("`").lstrip(".").partition("[...]")[0]
        if at == "notify.channels" and (problem := problem_in(data["notify"]["channels"])) is not None:
            raise ConfigurationError(f"{source_of(at)}: {problem}") from None
        if "unknown field" in message:
            at = ".".join(filter(None, [at, message.split("`")[1]]))
            raise ConfigurationError(f"{source_of(at)}: {at}: unknown key; expected {_siblings(at)}") from None
        value: Any = data
        for part in at.replace("[", ".").replace("]", "").split("."):
            value = value[int(part)] if part.isdigit() else value[part]
        raise ConfigurationError(
            f"{source_of(at.split('[')[0])}: {at} = {mask(at, value)}: {_expected(error, at)}"
        ) from None


def _plain_type(annotation: Any) -> msgspec.inspect.Type:
    kind = msgspec.inspect.type_info(annotation)
    return kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind


def _title(annotation: Any) -> str:
    kind = msgspec.inspect.type_info(annotation)
    return str((kind.extra_json_schema or {}).get("title", "")) if isinstance(kind, msgspec.inspect.Metadata) else ""


def instance_name(text: str) -> str:
    """Check the name of an instance, which becomes part of file names, units and Redis keys.

    :raises ValueError: if it is not valid.
    """
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise ValueError(f"{text!r}: expected {_title(Name)}") from None


def _expected(error: msgspec.ValidationError, dotted: str) -> str:
    for setting in settings():
        if setting.dotted != dotted:
            continue
        kind = _plain_type(setting.type)
        if isinstance(kind, msgspec.inspect.EnumType):
            return "expected one of " + ", ".join(str(member.value) for member in kind.cls)
        if title := _title(setting.type):
            return f"expected {title}"
    return in_words(str(error).partition(" - at `$")[0])


def _siblings(at: str) -> str:
    section = at.rpartition(".")[0].partition("[")[0]
    keys = [setting.key for setting in settings() if setting.section == section]
    for setting in settings():
        kind = _plain_type(setting.type)
        if setting.dotted == section and isinstance(kind, msgspec.inspect.DictType | msgspec.inspect.ListType):
            inner = kind.value_type if isinstance(kind, msgspec.inspect.DictType) else kind.item_type
            keys += [field.name for field in inner.fields] if isinstance(inner, msgspec.inspect.StructType) else []
    return "one of " + ", ".join(keys)


def _check_together(config: Config, sources: Mapping[str, str], servers: Sequence[str]) -> None:
    """Check constraints between keys whose violation would silently break a guarantee."""
    for key in ("success_ttl", "failure_ttl"):
        kept = getattr(config.store, key)
        if kept < config.queue.message_ttl:
            source = sources.get(f"store.{key}") or sources.get("queue.message_ttl", "the configuration")
            raise ConfigurationError(
                f"{source}: store.{key} = {kept:g}: expected at least queue.message_ttl "
                f"({config.queue.message_ttl:g}), or a late redelivery could not be deduplicated"
            )
    if config.store.detail_ttl > config.store.success_ttl:
        source = sources.get("store.detail_ttl") or sources.get("store.success_ttl", "the configuration")
        raise ConfigurationError(
            f"{source}: store.detail_ttl = {config.store.detail_ttl:g}: expected at most store.success_ttl "
            f"({config.store.success_ttl:g})"
        )
    if config.broker.url.startswith("sentinel:") and not config.broker.transport_options.get("master_name"):
        source = sources.get("broker.url", "the configuration")
        raise ConfigurationError(
            f"{source}: broker.url = sentinel://…: expected broker.transport_options with master_name, the name by "
            "which the sentinels know the Redis"
        )
    waits = {"broker.connect_timeout": config.broker.connect_timeout, "store.timeout": config.store.timeout}
    for key, wait in waits.items():
        if wait > config.store.max_wait:
            source = sources.get(key) or sources.get("store.lease", "the configuration")
            raise ConfigurationError(
                f"{source}: {key} = {wait:g}: expected at most {config.store.max_wait:g}, which is 3/5 of "
                f"store.lease ({config.store.lease:g}), or an instance that waits so long would lose its lease"
            )
    if (wrong := schedules.problem_in(config.schedules)) is not None:
        source = sources.get(f"schedules.{wrong[0]}") or sources.get("schedules", "the configuration")
        raise ConfigurationError(f"{source}: schedules.{msgspec.json.encode(wrong[0]).decode()}: {wrong[1]}")
    for section, (one, other) in product(servers, _PAIRS):
        if bool(getattr(getattr(config, section), one)) != bool(getattr(getattr(config, section), other)):
            source = sources.get(f"{section}.{one}") or sources.get(f"{section}.{other}", "the configuration")
            raise ConfigurationError(f"{source}: {section}.{one}, {section}.{other}: expected both or neither")
    if config.workers.lost_after <= config.workers.late_after:
        source = sources.get("workers.lost_after") or sources.get("workers.late_after", "the configuration")
        raise ConfigurationError(
            f"{source}: workers.lost_after = {config.workers.lost_after:g}: expected more than workers.late_after "
            f"({config.workers.late_after:g})"
        )
    source = sources.get("notify.secrets", "")
    if config.notify.secrets and not source.startswith("environment:") and Path(source).name != "notify_secrets":
        raise ConfigurationError(
            f"{source}: notify.secrets: expected in a file of its own that only root can read: put it as JSON into "
            f"{CREDENTIALS / 'notify_secrets'}"
        )
    pages = http_problem_of(config.web.url) if config.web.url else ""
    if problem := problem_of(config.notify) or (pages and f"web.url: {pages}"):
        key = ".".join(problem.partition(":")[0].partition("[")[0].split(".")[:2])
        raise ConfigurationError(f"{sources.get(key, 'the configuration')}: {problem}")

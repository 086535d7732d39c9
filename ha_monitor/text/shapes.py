"""Known secret patterns: by form, or by the command that they are an argument of."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from ha_monitor.text.grammar import HEADER, NO_FRAME, STRING, WORD

MAX_DISTANCE = 300
"""Maximum characters between the name of a command and its option."""


class Shape(NamedTuple):
    """The pattern of such a secret, in lower case."""

    words: tuple[str, ...]
    """Every text with such a secret contains one of these words."""
    source: str
    """Source of the regular expression."""
    is_option: bool = False
    """Whether it is a secret only after one of the words, a command, on the same line."""

    @property
    def expression(self) -> re.Pattern[str]:
        """The compiled expression; its group `hidden` is the secret."""
        return _compiled(self.source)


# Compiling all takes 15 ms; a command that meets none of the words need not wait for that.
_compiled = functools.cache(re.compile)


def _shape(words: str, expression: str) -> Shape:
    return Shape(tuple(words.split()), expression)


def _option(commands: str, *names: str, value: str) -> Shape:
    """:param commands: names of commands; a name of several words is joined by `+`."""
    words = tuple(command.replace("+", " ") for command in commands.split())
    return Shape(words, rf"(?<![\w-])(?:{'|'.join(names)}){value}", is_option=True)


_USER = r"""[^/\s:"'?#]{0,256}+"""
_PORT = r"""\d{1,5}+(?:[/\s"',;)\]}?#&<>]|\Z)"""
# Also in a list of arguments.
_APART = r"""["']?,?[ ]++(?!-)"""
_APART_OR_NOT = rf"(?>(?:{_APART}|=)?)"
_VALUE = rf"(?P<hidden>{WORD})"


def _user_and(mark: str) -> str:
    """A user name, this mark, and the password."""
    hidden = rf"""(?P<hidden>(?>(?:[^\s"'\\]++|{NO_FRAME}\\)+))"""
    return rf"""{_APART_OR_NOT}["']?[^\s{mark}"']{{1,100}}+{mark}{hidden}"""


SHAPES = (
    # The password in a URL, up to the last @ before the path, or, if the password contains a /, after it.
    _shape(
        "://",
        rf"""://{_USER}:(?!{_PORT})(?P<hidden>[^/\s]{{0,2048}}(?=@)|(?:(?!://)[^\s"'<>?#]){{0,2048}}(?=@)|[^/\s:@]++(?=\s*+\Z))""",
    ),
    # https://<token>@host
    _shape("://", r"://(?P<hidden>[\w.~%+-]{20,}+)(?=@)"),
    _shape("@tcp( @unix(", r""":(?P<hidden>[^\s:@"'/]++)(?=@(?:tcp|unix)\()"""),
    _shape("jdbc:oracle:", r"jdbc:oracle:\w++:[^/\s@]{1,100}+/(?P<hidden>[^/\s@]++)(?=@)"),
    _shape("authorization cookie", rf"(?:authorization|cookie)[ \t]*+:[ \t]*+(?P<hidden>{HEADER})"),
    # A plain word is no secret: 'basic authentication', 'the bearer of the token'.
    _shape("bearer", r"bearer[ ]++(?P<hidden>(?=[a-z]*+[\d+/=._~-])[\w+/=.~-]{6,}+)"),
    # Base64, or longer than a word: not 'basic plan_2'.
    _shape(
        "basic",
        r"basic[ ]++(?P<hidden>(?=[a-z]*+[\d+/=])[a-z\d+/=]{6,}+(?![\w~-]|\.\w)"
        r"|(?=[a-z_.-]{0,60}+[\d+/=])[\w+/=.~-]{20,}+)",
    ),
    _shape(
        "password passwd passphrase",
        rf"""pass(?:word|wd|phrase)(?:[ ]++(?>(?:is[ ]++|was[ ]++)?)|\()(?P<hidden>{STRING})""",
    ),
    # .netrc
    _shape("password", r"login[ \t\n]++\S{1,100}+[ \t\n]++password[ \t]++(?P<hidden>\S++)"),
    _shape("basicauth(", rf"""basicauth\(["'][^"'\n]{{0,100}}+["'],[ ]*+(?P<hidden>{STRING})"""),
    _shape("identified", rf"identified by (?>(?:password )?)(?P<hidden>{STRING})"),
    _shape(
        "requirepass masterauth",
        rf"""(?:requirepass|masterauth)["']?,?[ ]++(?!(?:is|was|not|must|has|needs)[ ])(?P<hidden>{WORD})""",
    ),
    _shape(
        "add_user change_password authenticate_user",
        rf"(?:add_user|change_password|authenticate_user){_APART}[^\s,]{{1,100}}+,?[ ]++(?P<hidden>{WORD})",
    ),
    _shape("sig=", r"""[?&]sig=(?P<hidden>[\w%+/=.~-]++)"""),
    _shape("signature= sig=", r"(?:signature|;sig)=(?P<hidden>[\w%+/=.~-]{16,}+)"),
    _shape("eyj", r"eyj(?<![\w-]eyj)[\w-]{8,}+\.(?P<hidden>[\w-]{4,}+(?:\.[\w-]*+)?)"),
    _shape("akia asia", r"(?:akia|asia)(?P<hidden>[a-z\d]{16})(?![a-z\d])"),
    _shape("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?:gh[pousr]_|github_pat_)(?P<hidden>\w{20,}+)"),
    _shape("xox xapp-", r"(?:xox[a-z]|xapp)[.-](?P<hidden>[\w.-]{10,}+)"),
    _shape("hooks.slack.com", r"hooks\.slack\.com/[a-z]++/(?P<hidden>[\w/]{20,}+)"),
    _shape("k_live_ k_test_ whsec_", r"(?:[sr]k_(?:live|test)|whsec)_(?P<hidden>\w{10,}+)"),
    _shape("sk-", r"sk-(?<![a-z\d]sk-)(?P<hidden>(?=[a-z_-]{0,60}+\d)[\w-]{20,}+)"),
    _shape(
        "aiza ya29. 1//0 gocspx- glpat- glptt- gldt- glrt- pypi- rubygems_ shpat_ shpss_ dop_v1_ doo_v1_ dor_v1_ hvs. "
        "dckr_pat_ pmak- lin_api_ sntrys_",
        r"(?:aiza|ya29\.|1//0|gocspx-|gl(?:pat|ptt|dt|rt)-|pypi-|rubygems_|shpat_|shpss_|do[opr]_v1_|hvs\.|dckr_pat_|pmak-|"
        r"lin_api_|sntrys_)(?P<hidden>[\w-]{20,}+)",
    ),
    _shape("npm_", r"npm_(?P<hidden>[a-z\d]{20,}+)"),
    _shape("sg.", r"sg\.(?<![\w.-]sg\.)(?P<hidden>[\w-]{16,}+\.[\w-]{16,}+)"),
    _shape("hf_", r"hf_(?<![\w.-]hf_)(?P<hidden>[a-z\d]{30,}+)"),
    _option("curl", "-u", "--user", "--proxy-user", value=_user_and(":")),
    _option("smbclient", "-u", "--user", value=_user_and("%")),
    _option("sshpass rabbitmqadmin", "-p", value=_APART_OR_NOT + _VALUE),
    _option("mongo docker+login podman+login", "-p", value=_APART + _VALUE),
    # A blank after the option means that it has no value.
    _option("mysql mariadb", "-p", value=_VALUE),
    _option("redis-cli", "-a", value=_APART + _VALUE),
    _option("ldap", "-w", value=_APART_OR_NOT + _VALUE),
)


def is_given_to(lower: str, shape: Shape, start: int) -> bool:
    """Whether the option that begins there belongs to a command of the shape."""
    for word in shape.words:
        name = lower.rfind(word, max(0, start - MAX_DISTANCE), start)
        if name >= 0 and _END_OF_COMMAND.search(lower, name, start) is None:
            return True
    return False


_END_OF_COMMAND = re.compile(r"(?<!\\)\n|\|")

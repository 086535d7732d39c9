"""The forms of values in a text: regular expressions for lower-case texts, combined by `secrets`.

Anybody may have written the texts that are searched. So every repetition is possessive (`[a-z]*+`), or for a group
atomic (`(?>(?:…)*)`): what it matched is never given back, and the time is linear in the length of the text.
A group is not repeated possessively (`(?:…)*+`): Python before 3.11.5 matches that wrongly
(https://github.com/python/cpython/issues/106052), and Debian 12 has 3.11.2.
"""

from __future__ import annotations

HIDDEN = "***"
"""Replaces a secret."""
_DEPTH = 6
"""Supported depth of nested brackets."""

QUOTE = r"""\\*+["']"""
"""A quotation mark with any number of backslashes before it: JSON in a string has `\\"`."""

_FRAME = r"(?:[ ]++file[ ]|traceback[ ]|the above exc|during hand)"
NO_FRAME = rf"(?!\\{{1,8}}+n(?>(?:\\{{1,8}}+n)?){_FRAME})"
"""Not followed by the next part of a traceback that is in an escaped text, where newlines are escaped: a value ends
there."""

# An escape that is not such a newline.
_ESCAPE = rf"\\[^n\\\n]|{NO_FRAME}\\[n\\]"
# To the end of the line.
_LINE = rf"(?>(?:[^\n\\]++|{_ESCAPE})*)"
# A string ends with its line at the latest, so that a stray quotation mark does not swallow a frame of a traceback.
# A mark followed by a letter belongs to the string, but has lost its escape; a mark after two backslashes is escaped in
# JSON whose text is shown as a Python string.
_SINGLE = rf"""'(?>(?:[^'\\\n]++|{_ESCAPE}|'(?=\w))*)'?+"""
_DOUBLE = rf""""(?>(?:[^"\\\n]++|\\{{2}}"|{_ESCAPE}|"(?=\w))*)"?+"""
_TRIPLE = (
    rf'''"""(?:(?>(?:[^"\\\n]++|{_ESCAPE}|\\?+\n(?!\n?+{_FRAME})|"(?!""))*)"""|{_LINE})'''
    rf"""|'''(?:(?>(?:[^'\\\n]++|{_ESCAPE}|\\?+\n(?!\n?+{_FRAME})|'(?!''))*)'''|{_LINE})"""
)
# A string within a string: ends at a mark with as many backslashes as its first one, or at the end of the outer string.
_ESCAPED = (
    r"""(?P<slashes>\\++)(?P<mark>["'])"""
    rf"""(?>(?:[^\\"'\n]++|(?!(?P=slashes)(?P=mark)|(?P=mark))\\*+["']|\\++(?!["'n])|{NO_FRAME}\\++(?=n))*)"""
    r"""(?>(?:(?P=slashes)(?P=mark))?)"""
)
PLAIN_STRING = rf"[bruf]{{0,2}}+(?:{_SINGLE}|{_DOUBLE})"
STRING = rf"[bruf]{{0,2}}+(?:{_TRIPLE}|{_SINGLE}|{_DOUBLE}|{_ESCAPED})"

# With lost escapes; if that has no end, as Python writes it. Bounded, because both may be tried at each mark.
_CLOSED_STRING = (
    rf"""'(?>(?:[^'\\\n]++|{_ESCAPE}|'(?=\w)){{0,AHEAD}})'|'(?>(?:[^'\\\n]++|{_ESCAPE})*)'"""
    rf"""|"(?>(?:[^"\\\n]++|\\{{2}}"|{_ESCAPE}|"(?=\w)){{0,AHEAD}})"|"(?>(?:[^"\\\n]++|{_ESCAPE})*)"|["']"""
    # The same in a JSON string: a quotation mark within it has three backslashes.
    rf'''|\\"(?>(?:[^"\\\n]++|\\{{4}}|\\{{3}}"|\\{{1,2}}(?=[^n"\\\n])|{NO_FRAME}\\{{1,2}}(?=n)){{0,AHEAD}})\\"'''
    rf"""|\\'(?>(?:[^'\\\n]++|\\{{4}}|\\{{3}}'|\\{{1,2}}(?=[^n'\\\n])|{NO_FRAME}\\{{1,2}}(?=n)){{0,AHEAD}})\\'"""
)
# A value continues on the next line if that is indented or closes something, but not in the next frame of a traceback.
_BEGINS_IT = r"""[ \t]++(?!file "|[\^~])|[)\]}"']"""
_NEXT_LINE = rf"\n(?={_BEGINS_IT})"
NO_NEXT_LINE = rf"\n(?!{_BEGINS_IT})"
"""Where a value in brackets ends at the latest."""


def _in_brackets(ahead: int, depth: int = _DEPTH) -> str:
    """The content of brackets, to the closing bracket, or to the end of a truncated text."""
    inner = rf"""[^()\[\]{{}}"'\\\n]++|{_CLOSED_STRING.replace("AHEAD", str(ahead))}|{_ESCAPE}|{_NEXT_LINE}"""
    if depth:
        inner += "|" + _in_brackets(ahead, depth - 1)
    return rf"[(\[{{](?>(?:{inner})*)(?:[)\]}}]|\Z)"


_OPENING = r"[\w.]{0,60}+[(\[{]"
# A call on the result of a call: a.b('x').c('y').
_ONE_OF_THEM = r"(?:(?<![)\]}])|(?=[.(\[]))"


def _in_all_brackets(ahead: int) -> str:
    return (
        rf"(?={_OPENING})(?>(?:{_ONE_OF_THEM}[\w.]{{0,60}}+{_in_brackets(ahead)})*)"
        rf"(?>(?:{_ONE_OF_THEM}(?P<unclosed>{_OPENING}){_LINE})?)"
    )


# These end an unquoted value, unless it continues right after them and no other key begins there.
_GOES_ON = r"""["',;&)\]}<>](?=\w)(?!\w{1,40}+[=:])"""
_NO_ESCAPE = r"""\\(?![nrt"'])"""
_SCHEME = r"(?>(?:(?:bearer|basic|digest|negotiate|apikey|token)[ ]++)?)"
_WORD = rf"""{_SCHEME}(?>(?:[^\s"',;&)\]}}<>\\]++|{_GOES_ON}|{_NO_ESCAPE})+)"""
_REST_OF_LINE = rf"""(?>(?:[^\n"',;&)\]}}<>\\]++|{_GOES_ON}|{_NO_ESCAPE})+)"""

WORD = rf"(?:{STRING}|{_WORD})"
"""A value that ends at a blank, such as that of an option on a command line."""

# Python concatenates adjacent strings, and pprint writes long ones that way.
_STRINGS = rf"{STRING}(?>(?:[ \t]*+(?>(?:\\?\n[ \t]++)?){PLAIN_STRING})*)"


def value(ahead: int) -> str:
    """A value after its key. key=value ends at a blank; key: value and key = value end with the line. The last group is
    `unclosed` if a bracket is never closed.

    :param ahead: how many pieces of a string are searched for its end, because marks in it may have lost their escape.
    """
    return (
        rf"(?:{_STRINGS}|{_in_all_brackets(ahead)}|(?<=\w>)[^<\n]++|(?<=[^\s:=]=){_WORD}|{_REST_OF_LINE})"
        rf"(?>(?:[ \t]*+(?:=|\+|or(?!\w))[ \t]*+{PLAIN_STRING})*)"
    )


def item(ahead: int) -> str:
    """A value in a list: a string, a number, or a list. The last group is `unclosed` as in `value`."""
    return rf"(?:{STRING}|{_in_all_brackets(ahead)}|[\d.]++)"


HEADER = r"""(?>(?:="[^"\n\\]*+"|=|[^\n"'\\=]++|["'](?=\w)|\\(?![nr"']))+)"""
"""The value of an HTTP header: the rest of its line."""

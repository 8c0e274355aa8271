"""Text from models and data made fit to be shown: nothing hidden, nothing endless. HTML escaping is Jinja's part.

A reply may hold control characters, direction overrides that make a line read backwards, characters without width, or
lone surrogates that no encoding takes. ``visible`` writes each of them as ``⟨U+202E⟩``, so that what a person
reads is what the model wrote. It is the templates' ``finalize``: every expression passes through it.
"""

from __future__ import annotations

import re

from markupsafe import Markup

# Everything that has no shape of its own or moves others about; tab and line feed stay.
_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls, carriage return among them
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f"  # zero width space, direction marks
    "\u2028\u2029\u202a-\u202e"  # line and paragraph separators, embeddings and overrides
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\ud800-\udfff"  # lone surrogates
    "\ufdd0-\ufdef\ufffe\uffff"  # noncharacters
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # musical controls, tags and supplementary selectors
    "\U0001fffe\U0001ffff\U0010fffe\U0010ffff"
    "]"
)
# Joiners are left where scripts and emoji need them, between characters beyond Latin; elsewhere they hide something.
_JOINER = re.compile("(?<![\u0300-\U0010ffff])[\u200c\u200d]|[\u200c\u200d](?![\u0300-\U0010ffff])")
# More marks on one letter than any script puts there climb over the lines above.
_MARKS = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4})[\u0300-\u036f"
    "\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)


def visible(text: str) -> str:
    """Return ``text`` with every hidden, reordering or unencodable character written out as ``⟨U+XXXX⟩``."""
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    text = _HIDDEN.sub(_name, text)
    text = _JOINER.sub(_name, text)
    return _MARKS.sub(r"\1⟨more marks⟩", text)


def _name(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match[0]):04X}⟩"


def finalize(value: object) -> object:
    """Jinja's ``finalize``: ``visible`` on every string that is not markup of our own."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def shorten(text: str, limit: int) -> str:
    """Return at most ``limit`` characters of ``text`` on one line, with an ellipsis where it was cut."""
    line = " ".join(text[: limit * 4].split())
    return line if len(line) <= limit and len(text) <= limit * 4 else line[: limit - 1].rstrip() + "…"


def cut(text: str, limit: int) -> tuple[str, int]:
    """Return the first ``limit`` characters and how many were left out."""
    return (text, 0) if len(text) <= limit else (text[:limit], len(text) - limit)

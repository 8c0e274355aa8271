"""Make text from models and data safe to display: nothing hidden, nothing too long. Jinja does the HTML escaping.

A reply may contain control characters, direction overrides that make a line read backwards, zero-width characters, or
lone surrogates that cannot be encoded. ``visible`` writes each of them as ``⟨U+202E⟩``, so that people read what the
model wrote. It is the templates' ``finalize``: every expression passes through it.
"""

from __future__ import annotations

import re

from markupsafe import Markup

# Characters that are invisible or reorder others; tab and line feed are kept.
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
# Joiners are kept between non-Latin characters, where scripts and emoji need them; elsewhere they hide something.
_JOINER = re.compile("(?<![\u0300-\U0010ffff])[\u200c\u200d]|[\u200c\u200d](?![\u0300-\U0010ffff])")
# Stacks of more combining marks than any script uses would cover the lines above.
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
    """Jinja's ``finalize``: apply ``visible`` to every string that is not our own markup."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def shorten(text: str, limit: int) -> str:
    """Return at most ``limit`` characters of ``text`` on one line, with an ellipsis if truncated."""
    line = " ".join(text[: limit * 4].split())
    return line if len(line) <= limit and len(text) <= limit * 4 else line[: limit - 1].rstrip() + "…"


def cut(text: str, limit: int) -> tuple[str, int]:
    """Return the first ``limit`` characters and the number of omitted ones."""
    return (text, 0) if len(text) <= limit else (text[:limit], len(text) - limit)

"""Absolute paths of the machine, which are kept in ``run.json`` and in nothing that people share."""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import BaseModel

AnyModel = TypeVar("AnyModel", bound=BaseModel)

# Two levels at least: "/s" and "[/INST]" are no paths. No part of a word, of a relative path or of a URL is one either.
_ROOT = r"(?<![\w.~/\\-])(?:(?:file://)?(?:~[\w.-]*)?/|[A-Za-z]:[/\\])"
_PART = r"[^\s/\\'\"`,;:()<>|]+"
_SPACED = r"[^'\"/\\\n]+"
_PATH = re.compile(
    rf"(?P<quote>['\"]){_ROOT}(?:{_SPACED}[/\\])+(?P<quoted>{_SPACED})[/\\]?(?P=quote)"
    rf"|{_ROOT}(?:{_PART}[/\\])+(?P<last>{_PART})[/\\]?"
)
_WHOLE = re.compile(rf"{_ROOT}(?:[^/\\\n]+[/\\])+([^/\\\n]+)[/\\]?")


def without_paths(model: AnyModel) -> AnyModel:
    """Return the model with every absolute path in its text shortened to the last part, e.g. a file's name."""
    return type(model).model_validate(_shortened(model.model_dump(by_alias=True)))


def shorten_paths(text: str) -> str:
    """Return the text with each absolute path in it shortened to its last part."""
    if whole := _WHOLE.fullmatch(text):  # a path alone may contain spaces
        return whole[1]
    return _PATH.sub(lambda found: found["last"] or f"{found['quote']}{found['quoted']}{found['quote']}", text)


def _shortened(value: object) -> object:
    if isinstance(value, str):
        return shorten_paths(value)
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    return [_shortened(inner) for inner in value] if isinstance(value, list | tuple) else value

"""``--set key=value``: dotted keys, values read as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from harness.errors import InputError

_PLAIN_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def apply_overrides(value: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of ``value`` with each ``a.b=c`` put in its place.

    Raises InputError for an override without ``=``, or one that goes through a value that holds no keys.
    """
    result: dict[str, Any] = _copy(value)
    for override in overrides:
        key, separator, text = override.partition("=")
        *path, last = key.strip().split(".")
        if not separator or not all((*path, last)):
            raise InputError(f"--set {override}: write it as key=value, or section.key=value, for example seed=7.")
        try:
            parsed = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {override}: the value is not valid YAML.") from error
        place = result
        for part in path:
            if place.get(part) is None:  # "dialogues:" with nothing after it is an empty section
                place[part] = {}
            inner = place[part]
            if not isinstance(inner, dict):
                raise InputError(f"--set {override}: '{part}' holds a value, not keys.")
            place = inner
        # YAML 1.1 reads 1e-4 as text; whoever writes it means the number.
        place[last] = float(parsed) if isinstance(parsed, str) and _PLAIN_EXPONENT.fullmatch(parsed) else parsed
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return value

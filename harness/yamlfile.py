"""Read a YAML file into a pydantic model; errors name the file, the line and the closest known key.

``--set key=value`` overrides (dotted keys, YAML values) are applied here too.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import InputError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]
MOST_PLACES = 100_000  # nested aliases can expand one kilobyte beyond what fits in memory


def read_yaml(path: Path) -> tuple[Any, dict[Location, int]]:
    """Return the file's value, and the line (from 1) of every key and list item by its location in the value.

    Raises InputError if the file cannot be read, is not valid YAML or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}."
        ) from error
    lines: dict[Location, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _collect_lines(node, (), lines, path, set())  # before loading, which expands every alias and merge
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML ({error}).") from error
    return value, lines


def _collect_lines(node: yaml.Node, at: Location, lines: dict[Location, int], path: Path, above: set[int]) -> None:
    if id(node) in above:  # an anchor that contains itself
        raise InputError(f"{path}, line {node.start_mark.line + 1}: an alias refers to itself.")
    if len(lines) > MOST_PLACES:
        raise InputError(f"{path}: too many keys and items (over {MOST_PLACES:,} with aliases expanded).")
    above = above | {id(node)}
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{path}, line {key.start_mark.line + 1}: a key must be plain text.")
            where = (*at, key.value)
            if where in lines:
                raise InputError(f"{path}, line {key.start_mark.line + 1}: key '{key.value}' is repeated.")
            lines[where] = key.start_mark.line + 1
            _collect_lines(value, where, lines, path, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*at, index), lines, path, above)


def validate(
    model: type[Model],
    value: object,
    *,
    source: str,
    lines: dict[Location, int] | None = None,
    overrides: Sequence[str] = (),
) -> Model:
    """Return ``value`` as ``model``; raise InputError with line and key for the first problem.

    ``overrides`` were applied to it: a problem in what one of them set is its own, not the file's.
    """
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise InputError(f"{source}: expected keys and values, found {type(value).__name__}.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem, location = _cause([(problem, _location(problem, value)) for problem in error.errors()])
        raise InputError(
            _sentence(problem, location, model, _place(location, source, lines or {}, overrides))
        ) from error


def load(model: type[Model], path: Path, overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file, apply ``--set key=value`` overrides and validate the result."""
    value, lines = read_yaml(path)
    if isinstance(value, dict | None):
        value = apply_overrides(value or {}, overrides)
    return validate(model, value, source=str(path), lines=lines, overrides=overrides)


def find(name_or_path: str | Path, shipped: Path, what: str) -> Path:
    """Return the file for a name in the folder ``shipped``, or for a path; raise InputError if there is none."""
    known = {file.stem: file for file in sorted(shipped.glob("*.yaml"))}
    path = known.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise InputError(
            f"There is no {what} '{name_or_path}': it is neither a file nor one of {', '.join(known)}."
            f"{did_you_mean(str(name_or_path), known)}"
        )
    return path


def _location(problem: ErrorDetails, value: Any) -> Location:
    """Return where the problem is in the value: pydantic's location without the names of union members.

    (``variants.tuple[Variant, ...].0.kind`` becomes ``variants.0.kind``.)
    """
    location: list[str | int] = []
    for part in problem["loc"]:
        inside = range(len(value)) if isinstance(value, list | tuple) else value if isinstance(value, dict) else ()
        if part in inside:
            value = value[part]
        elif not (problem["type"] == "missing" and part == problem["loc"][-1]):
            continue
        location.append(part)
    return tuple(location)


def _cause(problems: list[tuple[ErrorDetails, Location]]) -> tuple[ErrorDetails, Location]:
    """Return the problem to report and its location.

    Unknown keys come first, because a misspelt key also makes the right one missing. Otherwise the first problem with
    no other inside it: a list with an invalid item also fails the string member of a union.
    """
    unknown = [found for found in problems if found[0]["type"] == "extra_forbidden"]
    innermost = [
        (problem, at)
        for problem, at in problems
        if not any(len(other) > len(at) and other[: len(at)] == at for _, other in problems)
    ]
    return (unknown or innermost)[0]


def _place(location: Location, source: str, lines: dict[Location, int], overrides: Sequence[str]) -> str:
    """Return where a value comes from: the override that set it, else the line of the file."""
    for override in reversed(overrides):
        path = tuple(override.partition("=")[0].strip().split("."))
        within = location[: len(path)] == path
        if within or (location and path[: len(location)] == location and location not in lines):
            return f"--set {override:.80}"
    line = next((lines[location[:end]] for end in range(len(location), 0, -1) if location[:end] in lines), None)
    return f"{source}, line {line}" if line else source


def _sentence(problem: ErrorDetails, location: Location, model: type[BaseModel], where: str) -> str:
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'.{did_you_mean(str(location[-1]), _known_keys(model))}"
    if problem["type"] == "missing":
        return f"{where}: key '{key}' is missing."
    given = problem.get("input")
    shown = f", not {given!r:.80}" if isinstance(given, str | int | float | bool | None) else ""
    message = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    message = message[:1].lower() + message[1:]
    end = "" if message.endswith("?") else "."
    return f"{where}: {key}: {message}{shown}{end}" if key else f"{where}: {message}{end}"


def _known_keys(model: type[BaseModel]) -> set[str]:
    """Return all keys of a model and its nested models, so that a misplaced key gets a suggestion too."""
    keys: set[str] = set()
    seen: set[type[BaseModel]] = set()

    def visit(annotation: object) -> None:
        for part in getattr(annotation, "__args__", ()):
            visit(part)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            seen.add(annotation)
            for name, field in annotation.model_fields.items():
                keys.add(field.alias or name)
                visit(field.annotation)

    visit(model)
    return keys


class Strict(BaseModel):
    """A frozen model that rejects unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_PLAIN_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def apply_overrides(value: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of ``value`` with each ``a.b=c`` applied; raise InputError for an invalid override."""
    result = copy.deepcopy(value)
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
        # YAML 1.1 parses 1e-4 as a string; a number is meant.
        place[last] = float(parsed) if isinstance(parsed, str) and _PLAIN_EXPONENT.fullmatch(parsed) else parsed
    return result

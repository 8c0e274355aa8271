"""The shapes of files with replies: this project's own keys, keys that a mapping names, and what other tools write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from harness.yamlfile import Strict

Finish = Literal["eos", "stop", "length"]
# How a reply ended, in this project's words and in those of servers.
FINISH: Mapping[str, Finish] = {
    "eos": "eos", "eos_token": "eos", "end_turn": "eos", "stop": "stop", "stop_sequence": "stop",
    "length": "length", "max_tokens": "length", "model_length": "length",
}  # fmt: skip


class ReplyColumns(Strict):
    """The keys of a file of replies. ``id: null`` counts the lines; the others are optional if null."""

    id: str | None = "id"
    reference: str = "reference"
    reply: str = "reply"
    prompt: str | None = Field("prompt")
    conversation: str | None = "conversation"
    finish: str | None = "finish"


@dataclass(frozen=True)
class ReplyShape:
    """How a line is read. ``special`` replaces reading by ``keys`` for files that nest what is wanted."""

    keys: Mapping[str, str]
    special: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    others: frozenset[str] = field(default=frozenset())  # keys that are no columns either

    def read(self, value: dict[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a line says, by this project's keys, and its further columns."""
        if self.special is not None:
            said = self.special(value)
        else:
            said = {key: value[name] for key, name in self.keys.items() if name in value}
        if "id" not in self.keys:
            said["id"] = number
        taken = {*self.keys.values(), *self.others}
        return said, {str(key): content for key, content in value.items() if key not in taken}


def shape_of(first: Mapping[str, Any], columns: ReplyColumns | None) -> ReplyShape:
    """Return the shape of a file from its first line; ``columns``, if given, decide."""
    if columns is not None:
        return ReplyShape({key: name for key, name in columns.model_dump().items() if name is not None})
    own = {key: name for key, name in ReplyColumns().model_dump().items() if name is not None}
    if {"reply", "reference"} & first.keys():
        return ReplyShape(own)
    if {"predict", "label"} <= first.keys():  # LLaMA-Factory, generated_predictions.jsonl
        return ReplyShape({"reference": "label", "reply": "predict", "prompt": "prompt"})
    if {"doc_id", "target", "resps"} <= first.keys():
        return ReplyShape({**own, "id": "doc_id", "reference": "target", "reply": "resps"}, _lm_eval, _LM_EVAL)
    return ReplyShape(own)


_LM_EVAL = frozenset(
    {"doc", "arguments", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"}
)


def _lm_eval(value: dict[str, Any]) -> dict[str, Any]:
    """Return a line of lm-evaluation-harness's ``--log_samples`` (0.4): the filtered response is the reply."""
    said = {"id": value["doc_id"], "reference": value["target"], "reply": _text(value.get("filtered_resps"))}
    if said["reply"] is None:
        said["reply"] = _text(value["resps"])
    prompt = _text(value.get("arguments"))
    return said if prompt is None else {**said, "prompt": prompt}


def _text(value: object) -> str | None:
    """Return the first text within nested lists and objects ({"gen_args_0": {"arg_0": …}}), or None."""
    while isinstance(value, list | tuple | dict) and value:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value if isinstance(value, str) else None

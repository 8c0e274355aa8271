"""Training examples: the same tokens that scoring scores, plus the end of the reply.

A dialogue that does not fit is skipped and counted. Truncating it would remove its end, and a model that sees enough
replies without an end does not learn to stop.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.dialogues.chat import REFUSED, RefusedDialogueError
from harness.dialogues.model import Dialogue
from harness.dialogues.prompts import Template
from harness.dialogues.tokens import Tokenizer, encode_training
from harness.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset as Table

TOO_LONG = "too long"


@dataclass(frozen=True)
class TrainingExample:
    """One dialogue as token ids; ``learned[i]`` is 1 if token i is trained on (the reply and its end)."""

    input_ids: tuple[int, ...] = field(repr=False)
    learned: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True)
class TrainingSet:
    """The examples that fit, the dialogues they came from, and how many were skipped for which reason."""

    examples: tuple[TrainingExample, ...]
    dialogues: tuple[Dialogue, ...] = field(repr=False)
    skipped: dict[str, int]
    lengths: tuple[int, ...] = field(repr=False)  # of all dialogues that the template takes, including those too long
    unmatched: str = ""  # the end of a generation's prompt that training's prompt lacks

    @property
    def tokens(self) -> int:
        """Tokens of one epoch."""
        return sum(len(example.input_ids) for example in self.examples)

    def first(self, count: int) -> TrainingSet:
        """Return a set of the first ``count`` examples."""
        return dataclasses.replace(self, examples=self.examples[:count], dialogues=self.dialogues[:count])


def encode_dialogues(
    dialogues: Sequence[Dialogue],
    template: Template,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    on_invalid: Literal["error", "skip"] = "error",
) -> TrainingSet:
    """Return the training examples of the dialogues with at most ``max_length`` tokens.

    Raises InputError if the tokenizer has no end-of-sequence token, and RefusedDialogueError for a dialogue that the
    template refuses, unless such dialogues are skipped.
    """
    if tokenizer.eos_token_id is None:
        raise InputError("The base's tokenizer has no end-of-sequence token, so the model could not learn to stop.")
    examples: list[TrainingExample] = []
    kept: list[Dialogue] = []
    lengths: list[int] = []
    skipped: Counter[str] = Counter()
    unmatched = ""
    for dialogue in dialogues:
        try:
            text = template.render_training(dialogue, tokenizer)
        except RefusedDialogueError:
            if on_invalid == "error":
                raise
            skipped[REFUSED] += 1
            continue
        pair = encode_training(tokenizer, text.prompt, text.completion, text.ending, special_tokens=text.special_tokens)
        lengths.append(len(pair.ids))
        unmatched = unmatched or text.unmatched
        if len(pair.ids) > max_length:
            skipped[TOO_LONG] += 1
            continue
        learned = (0,) * pair.n_context + (1,) * (len(pair.ids) - pair.n_context)
        examples.append(TrainingExample(tuple(pair.ids), learned))
        kept.append(dialogue)
    return TrainingSet(tuple(examples), tuple(kept), dict(skipped), tuple(lengths), unmatched)


def refuse_empty(training: TrainingSet) -> None:
    """Raise InputError if there are no examples to train on."""
    if not training.examples:
        raise InputError(
            "There are no dialogues to train on: the training split is empty, or all of it exceeds max_length."
        )


def to_columns(training_set: TrainingSet) -> Table:
    """Return a tokenized ``datasets.Dataset`` for trl: ids and labels, with -100 for tokens that are not learned.

    Labels are explicit, so that a padding token that is also the end token is learned where it ends a reply.
    """
    from datasets import Dataset

    ids = [list(example.input_ids) for example in training_set.examples]
    labels = [
        [token if learned else -100 for token, learned in zip(example.input_ids, example.learned, strict=True)]
        for example in training_set.examples
    ]
    table: Table = Dataset.from_dict({"input_ids": ids, "labels": labels})
    return table

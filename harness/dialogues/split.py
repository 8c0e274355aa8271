"""Splits dialogues by a salted hash of the question, so that neither order, machine nor added rows matter.

The key is the conversation's id if there is one, else the normalised prompt; never the answer, so that the same
question asked twice stays in one split.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.dialogues.model import Dialogue

Split = Literal["train", "validation", "test"]
TRAIN_SHARE = 0.8
VALIDATION_SHARE = 0.1

_WHITESPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    """Return ``text`` in NFKC, case-folded, with runs of whitespace replaced by one space."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _WHITESPACE.sub(" ", folded).strip()


def prompt_hash(dialogue: Dialogue) -> str:
    """Return the SHA-256 (hex) of the normalised prompt."""
    return _sha256(normalise(dialogue.prompt)).hexdigest()


def dialogue_hash(dialogue: Dialogue) -> str:
    """Return the SHA-256 (hex) of the normalised prompt and reference: equal for dialogues with the same text."""
    return _sha256(normalise(dialogue.prompt), normalise(dialogue.reference or "")).hexdigest()


def split_of(dialogue: Dialogue, salt: str) -> Split:
    """Return the split of a dialogue: 80 % train, 10 % validation, 10 % test."""
    if dialogue.conversation is not None:
        digest = _sha256(salt, "conversation", dialogue.conversation).digest()
    else:
        digest = _sha256(salt, "prompt", normalise(dialogue.prompt)).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < TRAIN_SHARE:
        return "train"
    return "validation" if point < TRAIN_SHARE + VALIDATION_SHARE else "test"


def select(
    dialogues: Iterable[Dialogue], split: Literal["train", "validation", "test", "all"], salt: str
) -> tuple[Dialogue, ...]:
    """Return the dialogues of one split in order; ``all`` returns every dialogue."""
    if split == "all":
        return tuple(dialogues)
    return tuple(dialogue for dialogue in dialogues if split_of(dialogue, salt) == split)


def sample(dialogues: tuple[Dialogue, ...], count: int, seed: int) -> tuple[Dialogue, ...]:
    """Return a random sample in the order of the data; of the same seed, a smaller sample is part of a larger one."""
    ranked = sorted(dialogues, key=lambda dialogue: _sha256(str(seed), "sample", dialogue.id).digest())
    chosen = {dialogue.id for dialogue in ranked[:count]}
    return tuple(dialogue for dialogue in dialogues if dialogue.id in chosen)


def _sha256(*parts: str) -> hashlib._Hash:
    """Hash several strings with length prefixes, so that different sequences never hash the same bytes."""
    hasher = hashlib.sha256()
    for part in parts:
        # Python callers may pass lone surrogates, which files are rejected for; they must hash, not crash.
        data = part.encode("utf-8", errors="surrogatepass")
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher

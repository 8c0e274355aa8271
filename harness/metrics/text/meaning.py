"""Similarity of meaning by a neural encoder: BERTScore and embedding similarity. Off unless an encoder is given.

Heavy libraries are imported when the first reply is scored; declaring these metrics needs no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from harness.errors import InputError, first_line
from harness.metrics.medical.claims import KINDS, SENTENCE_END, claims_of
from harness.metrics.registry import Item, MetricSpec, Scores
from harness.stats.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

Loaded = TypeVar("Loaded")

BERT_NAMES = ("quality.bertscore_precision", "quality.bertscore_recall", "quality.bertscore_f1")
SIMILARITY = "quality.embedding_similarity"
CLAIM_NAMES = {kind: f"quality.{kind}_similarity" for kind in KINDS}
SAME_CLAIM = 0.6  # cosine from which a sentence counts as stating a claim
LONGEST = 512  # most tokens passed to an encoder; longer texts are truncated
BATCH = 32
MOST_CHARACTERS = 20_000  # far more than 512 tokens, so the rest need not be tokenised


class Meaning:
    """BERTScore, embedding similarity and claims covered by similarity."""

    at_once = 512  # encoders sort texts by length

    def __init__(self, encoder: str, device: str | None = None) -> None:
        self.encoder = encoder
        self.device = device
        self.specs = meaning_specs(encoder_identity(encoder))

    def score(self, items: Sequence[Item]) -> list[Scores]:
        """Return all values of each item; None if it has no reply, no text or no claims."""
        values: list[dict[str, float | None]] = [dict.fromkeys(spec.name for spec in self.specs) for _ in items]
        texts = [(_clean(item.reference), _clean(item.reply or "")) for item in items]
        worth = [place for place, (reference, reply) in enumerate(texts) if reference and reply]
        if worth:
            pairs = [texts[place] for place in worth]
            for place, found in zip(worth, self._bert_scores(pairs), strict=True):
                values[place].update(zip(BERT_NAMES, found, strict=True))
            for place, similarity in zip(worth, self._similarities(pairs), strict=True):
                values[place][SIMILARITY] = similarity
        for value, claims in zip(values, self._claims(items, [reply for _, reply in texts]), strict=True):
            value.update(claims)
        return [Scores(value) for value in values]

    def _bert_scores(self, pairs: list[tuple[str, str]]) -> list[tuple[float, ...]]:
        """Return precision, recall and F1 of greedy matching for each pair.

        torchmetrics' function mispairs the texts of a batch (1.9 sorts both sides by length without undoing it), so
        only its formula is used here; for single pairs the values are equal (see test_meaning.py).
        """
        import torch

        found: list[tuple[float, ...]] = [()] * len(pairs)
        order = sorted(
            range(len(pairs)), key=lambda place: sum(map(len, pairs[place]))
        )  # similar lengths need less padding
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            with torch.inference_mode():
                references, expected = self._embed_tokens([pairs[place][0] for place in places])
                replies, given = self._embed_tokens([pairs[place][1] for place in places])
                likeness = replies @ references.transpose(1, 2)
                precision = likeness.amax(2).sum(1) / given
                recall = likeness.amax(1).sum(1) / expected
                f1 = 2 * precision * recall / (precision + recall)
            columns = [torch.nan_to_num(column).tolist() for column in (precision, recall, f1)]
            for place, *values in zip(places, *columns, strict=True):
                found[place] = tuple(values)
        return found

    def _embed_tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return unit vectors of the tokens (zero for special ones and padding), and each text's number of tokens."""
        batch = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_special_tokens_mask=True,
            return_tensors="pt",
        ).to(self._bert.device)
        special = batch.pop("special_tokens_mask")
        mask = batch["attention_mask"] * (1 - special)
        hidden = self._bert(**batch).last_hidden_state.float()
        return hidden / hidden.norm(dim=-1, keepdim=True) * mask.unsqueeze(-1), mask.sum(1)

    def _similarities(self, pairs: list[tuple[str, str]]) -> list[float]:
        vectors = self._vectors(text for pair in pairs for text in pair)
        return [float(vectors[reference] @ vectors[reply]) for reference, reply in pairs]

    def _claims(self, items: Sequence[Item], replies: Sequence[str]) -> list[dict[str, float | None]]:
        """Return the share of each item's claims that some sentence of its reply resembles; nothing without claims."""
        wanted = [_claims_by_name(item) if item.reply is not None else {} for item in items]
        replied = [
            [sentence.strip() for sentence in SENTENCE_END.split(reply) if claims and sentence.strip()]
            for claims, reply in zip(wanted, replies, strict=True)
        ]
        vectors = self._vectors(
            text
            for claims, sentences in zip(wanted, replied, strict=True)
            if sentences
            for text in chain(sentences, *claims.values())
        )
        return [
            {name: _share_met(texts, sentences, vectors) for name, texts in claims.items()}
            for claims, sentences in zip(wanted, replied, strict=True)
        ]

    def _vectors(self, texts: Iterable[str]) -> dict[str, FloatArray]:
        """Return the unit vector of each text; repeated texts, such as references and claims, are encoded once."""
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, self._encode(unique), strict=True)) if unique else {}

    def _encode(self, texts: list[str]) -> FloatArray:
        found = self._sentences.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found)

    @cached_property
    def _sentences(self) -> Any:
        from sentence_transformers import SentenceTransformer

        local = Path(self.encoder).is_dir()
        return _opened(
            self.encoder,
            lambda: SentenceTransformer(
                self.encoder, device=self.device, local_files_only=local, trust_remote_code=False
            ),
        )

    @cached_property
    def _bert(self) -> Any:
        from transformers import AutoModel

        model = _opened(self.encoder, lambda: AutoModel.from_pretrained(self.encoder, trust_remote_code=False)).eval()
        return model.to(self.device) if self.device else model

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return _opened(self.encoder, lambda: AutoTokenizer.from_pretrained(self.encoder, trust_remote_code=False))

    @property
    def _longest(self) -> int:
        return min(LONGEST, getattr(self._bert.config, "max_position_embeddings", LONGEST))


def _claims_by_name(item: Item) -> dict[str, list[str]]:
    claims = {name: [_clean(claim) for claim in claims_of(item.columns, kind)] for kind, name in CLAIM_NAMES.items()}
    return {name: wanted for name, wanted in claims.items() if wanted}


def _share_met(claims: list[str], sentences: list[str], vectors: dict[str, FloatArray]) -> float:
    met = [any(float(vectors[claim] @ vectors[one]) >= SAME_CLAIM for one in sentences) for claim in claims]
    return sum(met) / len(met)


def meaning_specs(identity: str) -> tuple[MetricSpec, ...]:
    """Return the specs of all metrics of this module for an encoder."""
    sentences = f"{identity}|sentence-transformers:{_version('sentence-transformers')}"
    return (
        *(_bert_spec(name, identity) for name in BERT_NAMES),
        _spec(
            SIMILARITY,
            "Embedding similarity",
            "-1–1",
            f"embedding_similarity|cosine|{sentences}",
            "Whether reply and reference are about the same topics.",
            "Negation, numbers and which drug it is: opposite advice in similar words is very similar.",
        ),
        *(
            _spec(
                name,
                KINDS[kind].replace("covered", "met by similarity"),
                "0–1",
                f"{kind}_similarity|best sentence's cosine >= {SAME_CLAIM:g}|{sentences}",
                f"Claims of the column '{kind}' that some sentence of the reply resembles.",
                "Negation and numbers. A proxy for a human judgement.",
                heuristic=True,
            )
            for kind, name in CLAIM_NAMES.items()
        ),
    )


def missing_note() -> str:
    """Return a sentence on why these metrics are off."""
    return "BERTScore and embedding similarity are off: they need metric_options.encoder, a path or hub id."


def encoder_identity(encoder: str) -> str:
    """Return the encoder's name, with a digest of its files where it is a folder; raise InputError for a bad path."""
    folder = Path(encoder)
    if not folder.is_dir():
        if encoder.startswith((".", "/", "~")):
            raise InputError(f"metric_options.encoder: the folder {encoder} does not exist.")
        return f"encoder:{encoder}"
    if not (folder / "config.json").is_file():
        raise InputError(f"metric_options.encoder: {encoder} is not a model folder: it has no config.json.")
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"encoder:sha256:{digest.hexdigest()[:16]}"


def _bert_spec(name: str, identity: str) -> MetricSpec:
    part = name.rsplit("_", 1)[1]
    return _spec(
        name,
        f"BERTScore {'F1' if part == 'f1' else part}",
        "about 0–1",
        f"bertscore_{part}|last layer|no idf|no rescaling|{LONGEST} tokens|{identity}|v1",
        "Words of similar meaning in similar contexts, matched one by one.",
        "Negation, numbers and which drug it is; text beyond the encoder's longest input.",
    )


def _spec(
    name: str, label: str, scale: str, signature: str, sees: str, blind_to: str, *, heuristic: bool = False
) -> MetricSpec:
    return MetricSpec(
        name=name,
        unit="share of claims" if heuristic else "",
        higher_is_better=True,
        aggregation="mean",
        signature=signature,
        label=label,
        scale=scale,
        sees=sees,
        blind_to=blind_to,
        heuristic=heuristic,
    )


def _clean(text: str) -> str:
    """Return the text in a form that tokenizers accept: valid Unicode, of limited length, without outer spaces."""
    return text[:MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8").strip().strip("\x00")


def _opened(encoder: str, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"metric_options.encoder: {encoder} cannot be opened ({first_line(error, 300)}).") from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

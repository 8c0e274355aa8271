"""The model card: ``README.md`` of an adapter or a merged model, with what was measured of it and what was not.

Metadata: https://huggingface.co/docs/hub/model-cards. A card that was there before (PEFT and TRL write one) is kept as
``README.original.md``, and those of its metadata that this card does not state, such as the licence, are taken over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.errors import HarnessError, InputError, did_you_mean
from harness.export.card_text import card_text
from harness.export.destinations import Wanted
from harness.export.figures import ExportedRun, Figure
from harness.files import write_text_atomically
from harness.variants.digests import digest_adapter_folder, digest_model_folder, is_adapter, is_model, joined

MARK = "<!-- Written by `harness export --to model-card`; the next export replaces this file. -->"
KEPT_AS = "README.original.md"
FAMILIES = ("quality.", "safety.")  # latency and memory belong to a machine
_FRONT = re.compile(r"\A---\r?\n(.*?)^---\r?$\n?", re.DOTALL | re.MULTILINE)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_FILE = re.compile(r"\.(jsonl?|csv|tsv|parquet|txt|gz|zst|ya?ml)$")


def export(run: ExportedRun, wanted: Wanted) -> list[str]:
    """Write the card beside the weights or to ``--out``; return what was written.

    Raises InputError if the run has no such weights, and HarnessError if those in the folder are not what was measured.
    """
    variant = _chosen(run, wanted.variant)
    folder = _folder(run, variant)
    if wanted.out is None:
        _refuse_other_weights(run, variant, folder)
    path = wanted.place(run, "") if wanted.out else folder / "README.md"
    lines = [f"{path}: card of {variant}"]
    present = _read(path)
    if present is not None and MARK not in present:
        kept = path.with_name(KEPT_AS)
        if kept.exists() and _read(kept) != present:  # equal after an export that was interrupted here
            raise InputError(f"{path} would be kept as {kept}, which exists already. Move one of them.")
        write_text_atomically(kept, present)
        lines.append(f"{kept}: the card that was there")
    metadata = {**_metadata_of(present or ""), **_metadata(run, variant)}
    # Tags and paths that PEFT derives from the base's folder on this machine.
    metadata["tags"] = [tag for tag in metadata.get("tags") or [] if not str(tag).startswith("base_model:")]
    if not metadata["tags"]:
        del metadata["tags"]
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    write_text_atomically(path, f"---\n{front}---\n{MARK}\n\n{card_text(run, variant)}")
    return lines


def _chosen(run: ExportedRun, asked: str | None) -> str:
    """Return the variant whose card is written: the one asked for, or the first adapter, or the first merged model."""
    trained = [name for kind in ("adapter", "merged") for name, one in run.variants.items() if one.get("kind") == kind]
    if asked is not None and asked not in run.variants:
        raise InputError(f"The run has no variant '{asked}'.{did_you_mean(asked, tuple(run.variants))}")
    if asked is not None and asked not in trained:
        raise InputError(
            f"{asked} is of kind {run.variants[asked].get('kind')}. Only an adapter or a merged model gets a card."
        )
    if not trained:
        raise InputError("The run has neither an adapter nor a merged model, so there is nothing to write a card for.")
    return asked or trained[0]


def _folder(run: ExportedRun, variant: str) -> Path:
    """Return the folder of a variant's own weights, as ``run.json`` names it (with this machine's path)."""
    facts = next(one for one in run.folder.read_manifest().variants if one["name"] == variant)
    return Path(str(facts.get("adapter") or facts.get("model") or ""))


def _refuse_other_weights(run: ExportedRun, variant: str, folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}, the weights of {variant}, is not a folder here. Name the card's file with --out.")
    facts = run.variants[variant]
    adapter = facts.get("kind") == "adapter"
    digest = facts.get("adapter_digest" if adapter else "model_digest")
    if digest:
        same = (is_adapter if adapter else is_model)(folder, str(digest))
    else:  # the variant was listed in the config, without digests of its parts
        manifest = run.folder.read_manifest()
        named = next(one for one in manifest.variants if one["name"] == variant)
        of_adapter = digest_adapter_folder(named["adapter"]) if named.get("adapter") else None
        whole = joined(digest_model_folder(named["model"]), of_adapter)
        same = whole == manifest.digests.get(f"weights/{variant}")
    if not same:
        raise HarnessError(
            f"{folder} contains other weights than this run measured as {variant}. Measure them, or name --out."
        )


def _metadata(run: ExportedRun, variant: str) -> dict[str, Any]:
    """Return the front matter that a run determines."""
    facts = run.variants[variant]
    base = next((one.get("model") for one in run.variants.values() if one.get("kind") == "base"), None)
    base = facts.get("model") if facts.get("kind") == "adapter" else base
    metadata: dict[str, Any] = {}
    if base:
        metadata["base_model"] = str(base)
    metadata["library_name"] = "peft" if facts.get("kind") == "adapter" else "transformers"
    metadata["pipeline_tag"] = "text-generation"
    if hubs := [one for one in map(run.data_source, run.sets) if is_hub_id(one)]:
        metadata["datasets"] = list(dict.fromkeys(hubs))
    results = [_result(run, variant, name) for name in run.sets]
    metadata["model-index"] = [{"name": variant, "results": results}]
    return metadata


def _result(run: ExportedRun, variant: str, of: str) -> dict[str, Any]:
    """Return the metrics of one held-out set as an entry of the ``model-index``."""
    source = run.data_source(of)
    name = Path(source).name + (f", the set {of}" if of else "")
    held_out = {"type": source if is_hub_id(source) else _slug(source), "name": name, "split": "held out"}
    metrics = [
        {
            "type": figure.metric,
            "value": figure.value,
            "name": _display_name(figure.label or figure.metric, figure.low, figure.high),
            "args": {**_interval(figure), "n": figure.n},
        }
        for figure in run.figures(variant)
        if figure.set == of and figure.against is None and figure.metric.startswith(FAMILIES)
    ]
    return {"task": {"type": "text-generation", "name": "Medical dialogue"}, "dataset": held_out, "metrics": metrics}


def is_hub_id(source: str) -> bool:
    """Return whether a source of dialogues is a data set of the Hub and not a file or folder."""
    return bool(_HUB_ID.fullmatch(source)) and not _FILE.search(source) and not Path(source).exists()


def _display_name(label: str, low: float | None, high: float | None) -> str:
    return label if low is None or high is None else f"{label} (95 % interval {low:.3g} to {high:.3g})"


def _interval(figure: Figure) -> dict[str, float]:
    """Return the ends; none where there are none, because the Hub's library drops what is null."""
    if figure.low is None or figure.high is None:
        return {}
    return {"low": figure.low, "high": figure.high, "confidence": 0.95}


def _slug(source: str) -> str:
    return re.sub(r"\W+", "-", Path(source).stem.lower(), flags=re.ASCII).strip("-") or "dialogues"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def _metadata_of(card: str) -> Mapping[str, Any]:
    """Return a card's front matter; empty if it has none or it is not valid YAML."""
    found = _FRONT.match(card)
    try:
        metadata = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        metadata = None
    return metadata if isinstance(metadata, dict) else {}

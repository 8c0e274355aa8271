"""Run folders with systems of known quality on the same dialogues."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.store.folder import RunFolder
from tests.run_folders import make_run

DIALOGUES = 120


def values_of(gains: Mapping[str, float], *, seed: int = 0, dialogues: int = DIALOGUES) -> dict[str, Any]:
    """Return each variant's ROUGE-L and nll: one level for all runs, the variant's gain, and noise of its own."""
    level = np.random.default_rng(7).uniform(0.2, 0.4, dialogues)
    noise = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for variant, gain in gains.items():
        rouge = level + gain + noise.normal(0, 0.02, dialogues)
        nll = 3.0 - level - gain + noise.normal(0, 0.02, dialogues)
        found[variant] = {"quality.rouge_l": rouge.tolist(), "quality.nll": nll.tolist()}
    return found


def facts(name: str, kind: str = "adapter", **more: Any) -> dict[str, Any]:
    """Return a variant of ``run.json``."""
    return {"name": name, "kind": kind, "model": "models/example", "quantization": "none", "dtype": "float32", **more}


def board_run(root: Path, gains: Mapping[str, float], *, seed: int = 0, **more: Any) -> RunFolder:
    """Write a run of adapters with these gains in ROUGE-L and nll; ``base`` is a base."""
    variants = tuple(facts(name, "base" if name == "base" else "adapter") for name in gains)
    given = {"variants": variants, "finished": "2026-11-01T10:00:00+00:00", **more}
    return make_run(root, given.pop("values", None) or values_of(gains, seed=seed), **given)

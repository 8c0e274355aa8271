"""A run over several sets with real weights: loaded as often as for one set, even where memory holds one variant."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from harness.backends.local import device, loading
from harness.config import RunConfig
from harness.jobs.runner import run
from harness.sets import set_configs
from harness.yamlfile import validate

TINY = Path(__file__).parents[2] / "finetune" / "tiny" / "base"


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Return the config of a run of two bases over three sets."""
    variants = [
        {"name": name, "kind": "base", "model": str(shutil.copytree(TINY, tmp_path / name))}
        for name in ("one", "other")
    ]
    sets = {}
    for name in ("first", "second", "third"):
        rows = [{"id": f"{name}-{n}", "instruction": f"Is {name} {n}?", "output": "Rest."} for n in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sets[name] = {"source": str(tmp_path / f"{name}.jsonl"), "split": "all"}
    value = {
        "variants": variants, "sets": sets, "device": "cpu", "passes": ["scoring"], "metrics": ["nll"],
        "generation": {"max_new_tokens": 4}, "batch_tokens": 2048, "stats": {"resamples": 100},
    }  # fmt: skip
    return validate(RunConfig, value, source="run.yaml")


def test_a_further_set_loads_no_weights_again_where_memory_holds_one_variant(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: Counter[str] = Counter()
    load = loading.load_weights

    def counted(variant: Any, *args: Any) -> Any:
        loads[variant.name] += 1
        return load(variant, *args)

    monkeypatch.setattr(loading, "load_weights", counted)
    monkeypatch.setattr(device, "free_bytes", lambda _: 0)
    folder = run(config, tmp_path / "run")
    over_all = loads.copy()
    loads.clear()
    alone = run(set_configs(config)["first"], tmp_path / "alone")
    assert over_all == loads
    assert min(over_all.values()) >= 1
    assert folder.read_summary().metrics == alone.read_summary().metrics

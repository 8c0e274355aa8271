"""Variants listed by hand: what ``finetune`` wrote beside their weights is taken from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.backends.local.sanity import check_variants
from harness.errors import InputError
from harness.variants.artifacts import ADAPTER_FACTS
from harness.variants.digests import digest_adapter_folder, digest_model_folder
from harness.variants.folders import local_variants
from harness.variants.merge_report import MERGE_REPORT
from harness.variants.model import Variant
from harness.variants.resolve import ResolvedVariants
from tests.backends.local.small_models import save_adapter, save_base, save_merged

Listed = tuple[Variant, ...]


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    """Base, adapter and merged with the records that ``finetune`` leaves, named without any of them."""
    base, adapter, merged = (tmp_path / name for name in ("base", "adapter", "merged"))
    save_base(base)
    save_adapter(base, adapter)
    save_merged(base, adapter, merged)
    digests = {"base_digest": digest_model_folder(base), "adapter_digest": digest_adapter_folder(adapter)}
    (adapter / ADAPTER_FACTS).write_text(json.dumps({**digests, "template": "know-medical", "template_digest": "t"}))
    layer = {"name": "q", "relative_error": 0.1, "kept": 1.0, "delta_norm": 1.0, "weight_norm": 9.0}
    report = {
        "schema": 1, "strategy": "original", "dtype": "float32", "trained_quantization": "none", "base": "base",
        "adapter": "adapter", "model_digest": digest_model_folder(merged), "layers": 1, "mean_relative_error": 0.1,
        "mean_kept": 1.0, "delta_to_weight": 0.1, "worst_layers": [layer], "seconds": 1.0, "device": "cpu", **digests,
    }  # fmt: skip
    (merged / MERGE_REPORT).write_text(json.dumps(report))
    return (
        Variant(name="base", kind="base", model=str(base), dtype="float32"),
        Variant(name="adapter", kind="adapter", model=str(base), adapter=str(adapter), dtype="float32"),
        Variant(name="merged", kind="merged", model=str(merged), dtype="float32"),
    )


def local(listed: Listed) -> Listed:
    return local_variants(ResolvedVariants(listed, None, None)).variants


def test_what_was_recorded_beside_the_weights_is_known(listed: Listed) -> None:
    base, adapter, merged = local(listed)
    assert base == listed[0]
    assert (adapter.template, adapter.template_digest) == ("know-medical", "t")
    assert adapter.base_digest == merged.base_digest == digest_model_folder(base.model)
    assert adapter.adapter_digest == merged.adapter_digest
    assert merged.merge_strategy == "original"
    assert all(row.ok for row in check_variants((base, adapter, merged)))


@pytest.mark.parametrize(("key", "other"), [("seed", 2), ("recipe_digest", "another")])
def test_a_training_seed_or_recipe_other_than_the_recorded_one_is_refused(
    listed: Listed, key: str, other: object
) -> None:
    facts = Path(str(listed[1].adapter)) / ADAPTER_FACTS
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "seed": 1, "recipe_digest": "one"}))
    stated = listed[1].model_copy(update={key: other})
    with pytest.raises(InputError, match=f"adapter: its {key} is given as {other}, but .* is recorded"):
        local_variants(ResolvedVariants((listed[0], stated), None, None))
    same = listed[1].model_copy(update={"seed": 1, "recipe_digest": "one"})
    assert local_variants(ResolvedVariants((listed[0], same), None, None)).variants[1].seed == 1


def test_what_the_variant_itself_says_goes_before_what_was_recorded(listed: Listed) -> None:
    said = listed[1].model_copy(update={"template": "chat"})
    assert local((said,))[0].template == "chat"


def test_a_swapped_base_of_the_same_shape_is_found(listed: Listed) -> None:
    save_base(Path(listed[0].model), seed=5)
    with pytest.raises(InputError, match="is not the base its adapter was trained on"):
        check_variants(local(listed))


def test_a_merge_whose_weights_were_changed_afterwards_is_found(listed: Listed) -> None:
    save_merged(Path(listed[0].model), save_adapter(Path(listed[0].model), Path(str(listed[1].adapter)), seed=9),
                Path(listed[2].model))  # fmt: skip
    with pytest.raises(InputError, match="is not what was recorded"):
        check_variants(local((listed[0], listed[2])))

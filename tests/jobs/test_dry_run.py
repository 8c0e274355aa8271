"""What a dry run says of a model as large as Llama-2-7B, against what such a model was measured to take."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from harness.jobs.dry_run import about_variant
from harness.variants.model import Variant

HIDDEN, INNER, LAYERS, VOCABULARY = 4096, 11008, 32, 32000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of Llama-2-7B's shapes in bfloat16, whose file has a header and a hole of 13 GB instead of weights."""
    path = tmp_path_factory.mktemp("model")
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN)}
    shapes |= {"model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        inside = f"model.layers.{layer}"
        shapes |= {f"{inside}.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{inside}.mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        shapes |= {f"{inside}.mlp.down_proj.weight": (HIDDEN, INNER)}
        shapes |= {f"{inside}.{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    settings = {
        "model_type": "llama", "dtype": "bfloat16", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 32, "vocab_size": VOCABULARY,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(settings))
    return path


# As measured on an H100 (docs/benchmarks.md, "GPU memory"), with the cards named there.
@pytest.mark.parametrize(("quantization", "weights", "cards"), [("none", 12_853, (16, 24)), ("nf4", 3_697, (8, 8))])
def test_weights_and_cards_are_those_measured(
    folder: Path, quantization: str, weights: int, cards: tuple[int, int]
) -> None:
    variant = Variant.model_validate(
        {"name": "base", "kind": "base", "model": str(folder), "quantization": quantization}
    )
    (line,) = about_variant(variant, "cuda:0")
    said = re.search(r"weights about ([\d,]+) MiB", line)
    assert said
    assert int(said[1].replace(",", "")) == pytest.approx(weights, rel=0.005)
    assert "cache 512 KiB a token" in line
    assert f"1,024 tokens at batch 1: a card of {cards[0]} GB" in line
    assert f"4,096 tokens at batch 1: a card of {cards[1]} GB" in line

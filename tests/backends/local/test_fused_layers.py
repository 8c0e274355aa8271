"""Fused layers, with plain stand-ins for Triton's kernels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from harness.backends.local import fused_layers
from harness.backends.local.fused_layers import FusedLayers, why_unavailable
from harness.backends.local.pool import SharedPool
from harness.variants.model import Variant
from tests.backends.local.small_models import save_adapter, save_base, small_llama

IDS = torch.arange(3, 43).view(2, 20)


class Plain:
    """What the kernels compute, in torch; counts its calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float, *, from_one: bool = False) -> torch.Tensor:
        assert x.is_contiguous()
        self.calls["rms_norm"] += 1
        return torch.nn.functional.rms_norm(x, weight.shape, weight + 1.0 if from_one else weight, eps)

    def silu_times(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        self.calls["silu_times"] += 1
        return torch.nn.functional.silu(gate) * up

    def gelu_times(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        self.calls["gelu_times"] += 1
        return torch.nn.functional.gelu(gate, approximate="tanh") * up

    def rotate(self, x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
        self.calls["rotate"] += 1
        first, second = x.chunk(2, dim=-1)
        return x * cosines[:, None] + torch.cat((-second, first), dim=-1) * sines[:, None]


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def test_a_fused_model_computes_the_same_through_the_kernels() -> None:
    model, kernels = small_llama(), Plain()
    want = logits(model)
    with FusedLayers(model, "cpu", kernels).installed():
        kernels.calls.clear()
        got = logits(model)
    assert dict(kernels.calls) == {"rms_norm": 5, "silu_times": 2, "rotate": 4}
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_the_models_own_layers_are_back_afterwards() -> None:
    model, before = small_llama(), modeling_llama.apply_rotary_pos_emb
    with pytest.raises(KeyError), FusedLayers(model, "cpu", Plain()).installed():
        raise KeyError
    assert modeling_llama.apply_rotary_pos_emb is before
    assert not [name for name, module in model.named_modules() if "forward" in vars(module)]


@pytest.mark.parametrize("wrong", ["rms_norm", "silu_times", "rotate"])
def test_a_kernel_that_computes_something_else_is_not_used(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, kernels = small_llama(), Plain()
    right = getattr(kernels, wrong)
    monkeypatch.setattr(kernels, wrong, lambda *given: right(*given) * 1.001)
    want = logits(model)
    with FusedLayers(model, "cpu", kernels).installed():
        torch.testing.assert_close(logits(model), want, rtol=1e-5, atol=1e-5)


def test_another_activation_stays_as_it_is() -> None:
    model, kernels = small_llama(hidden_act="gelu"), Plain()
    want = logits(model)
    with FusedLayers(model, "cpu", kernels).installed():
        kernels.calls.clear()
        torch.testing.assert_close(logits(model), want, rtol=1e-5, atol=1e-5)
    assert kernels.calls["silu_times"] == 0


def small_gemma() -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "head_dim": 16}
    config = Gemma3TextConfig(vocab_size=124, num_hidden_layers=2, num_key_value_heads=1, **sizes)
    model = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.normal_(std=0.2)
    return model


def test_gemmas_norms_gates_and_rotations_are_fused() -> None:
    model, kernels = small_gemma(), Plain()
    want = logits(model)
    with FusedLayers(model, "cpu", kernels).installed():
        kernels.calls.clear()
        got = logits(model)
    assert dict(kernels.calls) == {"rms_norm": 2 * 6 + 1, "gelu_times": 2, "rotate": 4}
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_without_cuda_nothing_is_replaced() -> None:
    model = small_llama()
    with FusedLayers(model, "cpu").installed():
        assert not [name for name, module in model.named_modules() if "forward" in vars(module)]


@pytest.fixture
def lent(tmp_path: Path) -> tuple[SharedPool, Variant, Variant]:
    """A pool with a base and an adapter over it."""
    base = save_base(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    variants = (
        Variant(name="base", kind="base", model=str(base), dtype="float32"),
        Variant(name="adapter", kind="adapter", model=str(base), adapter=str(adapter), dtype="float32"),
    )
    return SharedPool(variants, "cpu"), *variants


def test_an_unmerged_adapter_computes_the_same(lent: tuple[SharedPool, Variant, Variant]) -> None:
    pool, _, adapter = lent
    with pool.use(adapter) as loaded:
        want = logits(loaded.model)
        with FusedLayers(loaded.model, "cpu", Plain()).installed():
            torch.testing.assert_close(logits(loaded.model), want, rtol=1e-5, atol=1e-5)


def test_an_adapter_switched_within_the_block_is_obeyed(lent: tuple[SharedPool, Variant, Variant]) -> None:
    pool, base, adapter = lent
    with pool.use(base) as loaded:
        want = logits(loaded.model)
    with pool.use(adapter) as outer, FusedLayers(outer.model, "cpu", Plain()).installed():
        corrected = logits(outer.model)
        with pool.use(base) as inner:
            torch.testing.assert_close(logits(inner.model), want, rtol=1e-5, atol=1e-5)
        assert (corrected - want).abs().max() > 1e-3


def test_kernels_that_do_not_run_are_done_without_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def rms_norm(self, *given: Any) -> torch.Tensor:
            raise FileNotFoundError("no C compiler\nsecond line")

    monkeypatch.setattr(fused_layers.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(fused_layers, "triton_kernels", Broken)
    monkeypatch.setattr(fused_layers.torch, "ones", lambda *given, **named: torch.zeros(1, 2))
    why_unavailable.cache_clear()
    assert why_unavailable("cuda:9") == "Triton does not run here (FileNotFoundError: no C compiler)"
    why_unavailable.cache_clear()


def test_without_triton_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_layers.importlib.util, "find_spec", lambda name: None)
    why_unavailable.cache_clear()
    assert why_unavailable("cuda:9") == "Triton is not installed"
    why_unavailable.cache_clear()

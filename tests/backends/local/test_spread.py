"""Layers spread over several devices: the same results, and memory counted on all of them.

Two GPUs are not everywhere, so accelerate's hooks are tried with all layers on the CPU.
"""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import dispatch_model

from harness.backends.base import DecodingSettings, DoesNotFitError, ReplyRequest, ScoringRequest
from harness.backends.local import device, loading, pool
from harness.backends.local.batches import joint_rows, scoring_tokens
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.fused_layers import why_not_fused
from harness.backends.local.graphs import why_no_graphs
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.backends.local.scoring import CausalForward, negative_log_likelihoods
from harness.backends.local.spread import device_of, spread_over
from harness.backends.local.timed import EagerEngine
from harness.errors import InputError
from harness.variants.model import Variant
from tests.backends.local.small_models import save_adapter, save_base, small_llama

GIB = 2**30
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")

Trio = tuple[Variant, Variant, Variant]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Two GPUs of 80 GiB as torch describes them; free bytes by index."""
    free = {0: 40 * GIB, 1: 20 * GIB}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free[torch.device(gpu).index], 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: 0)
    whole = type("Properties", (), {"total_memory": 80 * GIB})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: whole)
    return free


def test_auto_placement_takes_every_gpu_and_single_the_current_one(gpus: dict[int, int]) -> None:
    assert device.places(device.resolve_device("auto", "auto")) == ("cuda:0", "cuda:1")
    assert device.places(device.resolve_device("auto")) == ("cuda:0",)
    assert device.resolve_device("cpu", "auto") == "cpu"


def test_auto_placement_on_a_machine_with_one_gpu_is_that_gpu(
    gpus: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device.resolve_device("cuda", "auto") == "cuda:0"


def test_auto_placement_on_a_named_gpu_is_refused(gpus: dict[int, int]) -> None:
    with pytest.raises(InputError, match="cuda:1 names one GPU, but placement: auto spreads layers over all"):
        device.resolve_device("cuda:1", "auto")


def test_weights_and_caches_may_take_as_much_of_each_gpu_as_the_fullest_has(gpus: dict[int, int]) -> None:
    assert device.free_bytes("cuda") == 2 * int(20 * GIB * device.CUDA_SHARE)
    assert device.free_bytes("cuda:0") == int(40 * GIB * device.CUDA_SHARE)
    assert device.total_bytes("cuda") == 160 * GIB


def test_groups_of_prompts_and_references_are_those_of_one_gpu(gpus: dict[int, int]) -> None:
    wide = small_llama(num_attention_heads=4, num_hidden_layers=64)
    alone = joint_rows(wide, "cuda:0", 2**17)
    assert 1 < alone < 32  # memory decides
    assert joint_rows(wide, "cuda", 2**17) == alone


def test_a_batch_must_fit_on_the_fullest_gpu(gpus: dict[int, int]) -> None:
    gpus[1] = GIB  # of which half is kept for logits
    model = small_llama(intermediate_size=2**16)
    assert scoring_tokens(model, "cuda") == scoring_tokens(model, "cuda:1") < scoring_tokens(model, "cuda:0")


@pytest.mark.parametrize("refusal", [ValueError("Some modules are dispatched on the CPU or the disk."), None])
def test_a_model_too_large_for_all_gpus_does_not_fit_instead_of_going_to_the_disk(
    refusal: Exception | None, trio: Trio, gpus: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    left_to_the_disk = small_llama()
    left_to_the_disk.model.layers[1].to("meta")

    def load(path: str, **options: Any) -> tuple[Any, dict[str, Any]]:
        asked.append(options["max_memory"])
        if refusal is not None:
            raise refusal
        return left_to_the_disk, {}

    monkeypatch.setattr("transformers.AutoModelForCausalLM", SimpleNamespace(from_pretrained=load))
    monkeypatch.setattr(pool.machine, "release_cached_memory", lambda device: None)
    with (
        pytest.raises(DoesNotFitError, match="does not fit into the memory of cuda:0 and cuda:1"),
        SharedPool([trio[0]], "cuda").use(trio[0]),
    ):
        pass
    assert asked == [{index: int(free * device.CUDA_SHARE) for index, free in gpus.items()}]


def test_a_model_on_two_devices_is_run_without_graphs_and_kernels_and_says_so() -> None:
    model = small_llama()
    assert spread_over(model) is None
    model.model.layers[1].to("meta")
    assert spread_over(model) == "its layers are spread over cpu, meta"
    assert why_not_fused(model, "cuda") == spread_over(model)


def hooked(model: Any) -> Any:
    """Return the model as accelerate hands it out: each part with hooks that move what it is given."""
    parts = ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head"]
    places = dict.fromkeys(parts, "cpu")
    given = dispatch_model(model, places, skip_keys=model._skip_keys_device_placement, force_hooks=True)
    del given.hf_device_map  # PEFT takes layers on the CPU for offloaded ones, and removes their hooks
    return given


@pytest.fixture
def spread_pool(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> SharedPool:
    load = loading.load_weights
    monkeypatch.setattr(loading, "load_weights", lambda variant, device: hooked(load(variant, device)))
    return SharedPool(trio)


def test_scores_and_replies_through_hooks_are_those_without_them(trio: Trio, spread_pool: SharedPool) -> None:
    plain = SharedPool(trio)
    for variant in trio:
        with plain.use(variant) as one, spread_pool.use(variant) as other:
            assert hasattr(other.model.model.layers[0], "_hf_hook")
            assert scores(other) == pytest.approx(scores(one), rel=1e-6)
            assert replies(other) == replies(one)
    assert len(spread_pool.loaded()) == 2  # base and adapter share


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, Variant]:
    """Base and adapter of six layers, of which each GPU gets some."""
    root = tmp_path_factory.mktemp("deep")
    base = str(save_base(root / "base", num_hidden_layers=6))
    adapter = str(save_adapter(root / "base", root / "adapter"))
    return (
        Variant(name="base", kind="base", model=base),
        Variant(name="adapter", kind="adapter", model=base, adapter=adapter),
    )


@two_gpus
@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_gpus_give_the_replies_of_one(deep: tuple[Variant, Variant], quantization: str, dtype: str) -> None:
    changes = {"quantization": quantization, "dtype": dtype}
    variants = tuple(variant.model_copy(update=changes) for variant in deep)
    alone, both = SharedPool(variants, "cuda:0"), SharedPool(variants, "cuda")
    for variant in variants:
        with alone.use(variant) as one, both.use(variant) as other:
            assert spread_over(one.model) is None
            layers = other.model.model.layers
            assert {str(device_of(layers[0])), str(device_of(layers[-1]))} == {"cuda:0", "cuda:1"}
            assert why_no_graphs(other.model) is not None
            assert scores(other) == pytest.approx(scores(one), rel=1e-5 if dtype == "float32" else 2e-2)
            assert replies(other) == replies(one)
            assert timed(other) == timed(one)


def scores(loaded: LoadedModel) -> list[float]:
    batch = [ScoringRequest(f"s{n}", tuple(range(1, 12 + n)), 4) for n in range(5)]
    return negative_log_likelihoods(CausalForward(loaded.model), batch, str(torch.device(loaded.device)))


def replies(loaded: LoadedModel) -> dict[str, Any]:
    waiting = deque(ReplyRequest(f"r{n}", tuple(range(1, 5 + n))) for n in range(5))
    decoder = SlotDecoder(loaded, DecodingSettings(16), rows=2, columns=64)
    return {reply.id: reply.tokens for reply in decoder.run(waiting)}  # type: ignore[union-attr]


def timed(loaded: LoadedModel) -> tuple[tuple[int, ...], ...]:
    return EagerEngine(loaded).request([[1, 5, 9], [1, 7]], 8, natural=False, room=16).tokens

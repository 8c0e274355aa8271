"""Fused norms, gates, rotary embeddings and LoRA corrections, with fewer passes over memory.

Between its matrix products a decoder reads and writes every activation a dozen times. Each kind of module is replaced
only if the replacement gives the same results as the module's own forward on the loaded model.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import torch

from harness.backends.local.spread import spread_over
from harness.backends.local.transformers_types import CausalLM
from harness.errors import first_line

TRIED_TOKENS = 3
# Largest difference from the original module, relative to its largest value: four units in the last place in half
# precision, and what another order of summation may give in single precision.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


class Kernels(Protocol):
    """What the fused layers are built from (``kernels`` on CUDA)."""

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, *, from_one: bool = False
    ) -> torch.Tensor: ...
    def silu_times(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor: ...
    def gelu_times(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor: ...
    def rotate(self, x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor: ...


@functools.cache
def why_unavailable(device: str) -> str | None:
    """Return why the Triton kernels cannot run on ``device``, or None if the smallest of them does run."""
    if not device.startswith("cuda"):
        return "Triton kernels need CUDA"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    try:
        ones = torch.ones((1, 2), device=device)
        triton_kernels().rms_norm(ones, ones[0], 0.0)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no C compiler, an old GPU, an unwritable cache folder: all kinds of errors
        return f"Triton does not run here ({type(error).__name__}: {first_line(error, 200)})"
    return None


def why_not_fused(model: CausalLM, device: str) -> str | None:
    """Return why the kernels cannot run in ``model``, or None. They start on the current GPU, wherever a layer is."""
    return spread_over(model) or why_unavailable(device)


def triton_kernels() -> Kernels:
    """Return the kernels; call only if ``why_unavailable`` returns None."""
    from harness.backends.local import kernels

    found: Any = kernels
    return found  # type: ignore[no-any-return]


class FusedLayers:
    """The fused forwards that give the same results for ``model`` as it is now; none without CUDA and Triton.

    Create it after attaching the adapter to be run. Not for training.
    """

    def __init__(self, model: CausalLM, device: str, kernels: Kernels | None = None) -> None:
        self._replacements: list[tuple[Any, str, Any]] = []  # owner, attribute, new value
        if kernels is not None or why_not_fused(model, device) is None:
            self._find(model, kernels or triton_kernels())

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Run the model through the fused layers within the block."""
        with contextlib.ExitStack() as replaced:
            for owner, name, value in self._replacements:
                replaced.enter_context(_attribute(owner, name, value))
            yield

    def _find(self, model: CausalLM, kernels: Kernels) -> None:
        like = model.get_input_embeddings().weight
        namespaces = set()
        for kind, modules in _by_class(model).items():
            makers = _makers(modules[0], kernels)
            make = next((make for make in makers if _same(modules[0], make(modules[0]), like)), None)
            if make is not None:
                self._replacements += [(module, "forward", make(module)) for module in modules]
            namespaces.add(kind.__module__)
        for namespace in sorted(namespaces):
            plain = getattr(sys.modules.get(namespace), "apply_rotary_pos_emb", None)
            if plain is not None and (turned := _Rotary(plain, kernels)).same(model):
                self._replacements.append((sys.modules[namespace], "apply_rotary_pos_emb", turned))


def _by_class(model: CausalLM) -> dict[type, list[Any]]:
    found: dict[type, list[Any]] = {}
    for module in model.modules():
        found.setdefault(type(module), []).append(module)
    return found


Forward = Callable[..., torch.Tensor]


def _makers(module: Any, kernels: Kernels) -> list[Callable[[Any], Forward]]:
    """Return the functions that may build a fused forward for modules of this class; the first that is right counts."""
    if type(module).__name__.endswith("RMSNorm"):
        return [partial(_rms_norm, kernels=kernels, from_one=from_one) for from_one in (False, True)]
    if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
        return [partial(_gated, opened=opened) for opened in (kernels.silu_times, kernels.gelu_times)]
    if all(hasattr(module, name) for name in ("lora_A", "lora_B", "base_layer", "active_adapters")):
        return [_corrected]
    return []


def _rms_norm(norm: Any, *, kernels: Kernels, from_one: bool) -> Forward:
    plain = norm.forward
    eps = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        if hidden.dtype != norm.weight.dtype or hidden.shape[-1:] != norm.weight.shape:
            return plain(hidden)  # type: ignore[no-any-return]
        if hidden.is_contiguous():
            return kernels.rms_norm(hidden, norm.weight, eps, from_one=from_one)
        turned = hidden.transpose(1, 2)  # heads before tokens, as some models norm their queries and keys
        if hidden.dim() == 4 and turned.is_contiguous():
            return kernels.rms_norm(turned, norm.weight, eps, from_one=from_one).transpose(1, 2)
        return plain(hidden)  # type: ignore[no-any-return]

    return forward


def _gated(mlp: Any, *, opened: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Forward:
    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return mlp.down_proj(opened(mlp.gate_proj(hidden), mlp.up_proj(hidden)))  # type: ignore[no-any-return]

    return forward


def _corrected(layer: Any) -> Forward:
    """Return a LoRA forward that adds the product with B to the base's output in place, rounded once.

    The active adapter is looked up at every call, because it may be switched while this is installed.
    """
    plain = layer.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        if layer.disable_adapters and not layer.merged:
            return layer.base_layer(hidden)  # type: ignore[no-any-return]
        name = _only_adapter(layer)
        if name is None or layer.lora_A[name].weight.dtype != hidden.dtype:
            return plain(hidden)  # type: ignore[no-any-return]
        result = layer.base_layer(hidden)
        narrow = torch.nn.functional.linear(hidden, layer.lora_A[name].weight)
        rows = result.view(-1, result.shape[-1])
        rows.addmm_(narrow.view(-1, narrow.shape[-1]), layer.lora_B[name].weight.t(), alpha=layer.scaling[name])
        return result  # type: ignore[no-any-return]

    return forward


def _only_adapter(layer: Any) -> str | None:
    """Return the only active adapter if it is plain LoRA without bias and not merged into the weights; else None."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.merged or len(names) != 1 or names[0] in layer.lora_variant or layer.lora_B[names[0]].bias is not None:
        return None
    return str(names[0])


class _Rotary:
    """A replacement for a modelling module's ``apply_rotary_pos_emb``, with the same signature."""

    def __init__(self, plain: Any, kernels: Kernels) -> None:
        self._plain = plain
        self._kernels = kernels

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *others: Any, **named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotate queries and keys [rows, heads, tokens, width] by their positions' angles."""
        width = q.shape[-1]
        usual = not others and not named and cos.dim() == 3 and cos.shape[-1] == width and cos.dtype == q.dtype
        laid = usual and all(part.stride(-1) == 1 for part in (q, k)) and cos.is_contiguous() and sin.is_contiguous()
        if not laid:
            turned: tuple[torch.Tensor, torch.Tensor] = self._plain(q, k, cos, sin, *others, **named)
            return turned
        return self._kernels.rotate(q, cos, sin), self._kernels.rotate(k, cos, sin)

    @torch.inference_mode()
    def same(self, model: CausalLM) -> bool:
        """Return whether it gives the same results as the original on random states of this model's shapes."""
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        weight = model.get_input_embeddings().weight
        generator = torch.Generator(weight.device).manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype)

        q, k = random(2, TRIED_TOKENS, heads, width), random(2, TRIED_TOKENS, key_heads, width)
        cos, sin = random(2, TRIED_TOKENS, width), random(2, TRIED_TOKENS, width)
        try:
            want = self._plain(q.transpose(1, 2), k.transpose(1, 2), cos, sin)
        except (TypeError, RuntimeError, ValueError):
            return False
        got = self(q.transpose(1, 2), k.transpose(1, 2), cos, sin)
        return all(_close(one, other) for one, other in zip(got, want, strict=True))


@torch.inference_mode()
def _same(module: Any, forward: Forward, like: torch.Tensor) -> bool:
    """Return whether ``forward`` matches the module on random states of its width and ``like``'s dtype."""
    width = _input_width(module)
    if width is None:
        return False
    generator = torch.Generator(like.device).manual_seed(0)
    states = torch.randn((1, TRIED_TOKENS, width), generator=generator, device=like.device, dtype=like.dtype)
    try:
        return _close(forward(states.clone()), module(states))
    except (TypeError, ValueError, AttributeError):  # a module with other arguments or attributes than expected
        return False


def _input_width(module: Any) -> int | None:
    for inner in (getattr(module, "gate_proj", None), getattr(module, "base_layer", None)):
        if inner is not None:
            return getattr(inner, "in_features", None)
    weight = getattr(module, "weight", None)
    return None if weight is None else int(weight.shape[-1])


def _close(got: torch.Tensor, want: torch.Tensor) -> bool:
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    off = (got.float() - want.float()).abs().max()
    return bool(off <= TOLERANCE.get(want.dtype, 0.0) * want.float().abs().max())


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of an object for the block and restore it afterwards."""
    own = vars(owner)
    before = own.get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

"""One-token forwards of a model's layers, compiled by inductor: fewer and larger kernels for a graph to replay.

All layers of a model are one function of their weights, so one of them is compiled (seconds) and serves for all,
where compiling the whole model takes the better part of a minute. Prompts are not compiled: their lengths differ.
Another batch size, or an adapter switched on or off, compiles one layer anew.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

# At batch 1 a matrix is read once for one product, which tuned reductions do nearer to the memory's speed than a
# general product. Sums over a LoRA rank of 16 are unrolled, so that they ride along with the product they correct.
INDUCTOR_OPTIONS: dict[str, Any] = {"coordinate_descent_tuning": True, "unroll_reductions_threshold": 16}
VERSIONS = 64  # compiled layers kept: one for each batch size, adapter state and kind of weights


class OneLayerCache:
    """A layer's own slots in the guise of a cache, which ignores the layer's number: all layers share one code."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def update(self, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the states and return what the rows may attend to."""
        written: tuple[torch.Tensor, torch.Tensor] = self.layer.update(key, value)
        return written


class CompiledLayers:
    """Compiles the decoding steps of ``model``'s layers while ``installed``.

    ``backend`` and ``options`` are torch.compile's; what was compiled once in this process is used again.
    """

    def __init__(self, model: Any, *, backend: str = "inductor", options: Mapping[str, Any] | None = None) -> None:
        self._layers = decoder_layers(model)
        chosen = INDUCTOR_OPTIONS if options is None and backend == "inductor" else options or {}
        self._compiled = _compiled(backend, tuple(sorted(chosen.items())))

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let decoding steps within the block run through the compiled layers."""
        import torch._dynamo

        own = [layer.__dict__.get("forward") for layer in self._layers]
        try:
            for number, layer in enumerate(self._layers):
                layer.forward = self._routed(layer, number)
            with torch._dynamo.config.patch(recompile_limit=VERSIONS):
                yield
        finally:
            for layer, before in zip(self._layers, own, strict=True):
                layer.__dict__.pop("forward", None)
                if before is not None:
                    layer.forward = before

    def _routed(self, layer: Any, number: int) -> Callable[..., Any]:
        plain = layer.forward

        def forward(hidden: torch.Tensor, *positional: Any, **named: Any) -> Any:
            cache = named.get("past_key_values")
            if positional or cache is None or cache.filling is not None:
                return plain(hidden, *positional, **named)
            named["past_key_values"] = OneLayerCache(cache.layers[number])
            return self._compiled(layer, hidden, named)

        return forward


def decoder_layers(model: Any) -> list[Any]:
    """Return the layers of a decoder, or an empty list where they are not all of one class in ``decoder.layers``."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    layers = list(getattr(decoder, "layers", ()))
    return layers if len({type(layer) for layer in layers}) == 1 else []


@functools.cache
def _compiled(backend: str, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return torch.compile(_one_layer, backend=backend, dynamic=False, options=dict(options) or None)


def _one_layer(layer: Any, hidden: torch.Tensor, named: dict[str, Any]) -> Any:
    return type(layer).forward(layer, hidden, **named)

"""Import the model libraries before they are needed, without the compiler that most runs never call.

Where bitsandbytes is installed, PEFT imports it, and bitsandbytes hands functions to ``torch.compile`` while it is
imported. That alone imports all of inductor: a second of processor time and 45 MB, for kernels of optimizers and of
8-bit weights.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.variants.model import Variant


def import_for(variants: Iterable[Variant]) -> None:
    """Import everything that loading these variants would import."""
    named = tuple(variants)
    transformers = importlib.import_module("transformers")
    for name in ("AutoModelForCausalLM", "AutoTokenizer", "GenerationMixin", "PreTrainedModel"):
        getattr(transformers, name)  # transformers imports on attribute access
    with compiled_when_called():
        if any(variant.adapter for variant in named):
            importlib.import_module("peft")
        if any(variant.quantization != "none" for variant in named):
            importlib.import_module("bitsandbytes")


@contextmanager
def compiled_when_called() -> Iterator[None]:
    """Let ``torch.compile`` in the block do its work when the compiled function is first called."""
    import torch

    compile_now: Callable[..., Any] = torch.compile

    def compile_later(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        if function is None:
            return functools.partial(compile_later, **options)
        compiled = functools.cache(lambda: compile_now(function, **options))

        @functools.wraps(function)
        def called(*arguments: Any, **named: Any) -> Any:
            return compiled()(*arguments, **named)

        return called

    untyped: Any = torch
    untyped.compile = compile_later
    try:
        yield
    finally:
        untyped.compile = compile_now

"""The three default variants over a tiny random base, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.variants.model import Variant
from tests.backends.local.small_models import save_adapter, save_base, save_merged


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trio(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, Variant, Variant]:
    """Base, adapter and merged, in fp32."""
    root: Path = tmp_path_factory.mktemp("trio")
    base = save_base(root / "base", end_scale=2.0)
    adapter = save_adapter(base, root / "adapter")
    merged = save_merged(base, adapter, root / "merged")
    return (
        Variant(name="base", kind="base", model=str(base), dtype="float32"),
        Variant(name="adapter", kind="adapter", model=str(base), adapter=str(adapter), dtype="float32"),
        Variant(name="merged", kind="merged", model=str(merged), dtype="float32"),
    )

"""A file replaced while a run goes on is noticed before anything is measured with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.variants.model import Variant
from harness.variants.snapshot import Snapshot


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    for name in ("base/config.json", "base/model.safetensors", "adapter/adapter_model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    model, adapter = str(tmp_path / "base"), str(tmp_path / "adapter")
    return Variant(name="adapter", kind="adapter", model=model, adapter=adapter)


def _replaced(folder: Path) -> None:
    path = folder / "adapter/adapter_model.safetensors"
    copy = Path(shutil.copy2(path, folder / "copy"))  # same size, same time
    copy.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "adapter/adapter_model.safetensors": _replaced,
    "base/config.json": lambda folder: (folder / "base/config.json").write_text("{ }"),
    "base/tokenizer.json": lambda folder: (folder / "base/tokenizer.json").touch(),
    "base/model.safetensors": lambda folder: (folder / "base/model.safetensors").unlink(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_is_replaced_added_or_removed_is_named(variant: Variant, tmp_path: Path, name: str) -> None:
    snapshot = Snapshot.of([variant])
    snapshot.refuse_changed([variant])
    CHANGES[name](tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path / name} was changed since this run began"):
        snapshot.refuse_changed([variant])


def test_what_a_run_does_not_load_may_change(variant: Variant, tmp_path: Path) -> None:
    snapshot = Snapshot.of([variant])
    (tmp_path / "adapter/README.md").write_text("new")
    (tmp_path / "base/tokenizer.json").touch()
    adapter_alone = variant.model_copy(update={"model": str(tmp_path / "elsewhere")})
    snapshot.refuse_changed([adapter_alone])

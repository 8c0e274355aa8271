"""The report of a merge: ``merge.json`` beside the merged weights. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.files import read_model
from harness.variants.model import MergeStrategy

if TYPE_CHECKING:
    import torch

MERGE_REPORT = "merge.json"


class LayerError(BaseModel):
    """One merged weight, or a tensor that the adapter replaces.

    ``relative_error`` is ‖W_merged − W_target‖ / ‖W_target − W_train‖ (Frobenius). ``W_train`` is the weight the
    adapter was trained over (dequantised if training used 4-bit weights) and ``W_target`` = W_train + ΔW, or the tensor
    in the adapter's file. 0: nothing was lost; 1: the error is as large as ΔW. ``kept`` is the share of ΔW that remains
    in W_merged − W_train, by projection.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str  # of the parameter in the loaded model
    relative_error: float
    kept: float
    delta_norm: float
    weight_norm: float

    @classmethod
    def of(cls, name: str, trained: torch.Tensor, delta: torch.Tensor, change: torch.Tensor) -> LayerError:
        """Measure one weight: ``trained`` is W_train, ``delta`` W_target − W_train, ``change`` W_merged − W_train."""
        size = float(delta.norm())
        return cls(
            name=name,
            relative_error=float((change - delta).norm()) / size if size else 0.0,
            kept=float((change * delta).sum()) / size**2 if size else 1.0,
            delta_norm=size,
            weight_norm=float(trained.norm()),
        )


class MergeReport(BaseModel):
    """A finished merge."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    strategy: MergeStrategy
    dtype: str
    trained_quantization: str
    quantization_assumed: bool = False  # neither the adapter's record nor the user stated it
    base: str
    adapter: str
    base_digest: str
    adapter_digest: str
    model_digest: str
    layers: int  # number of weights the adapter changed
    mean_relative_error: float
    mean_kept: float
    delta_to_weight: float  # ‖ΔW‖/‖W‖ over all changed weights
    worst_layers: tuple[LayerError, ...]  # the ten largest relative errors, worst first
    largest_quantization_error: float | None = None  # ‖W − dequantised W‖/‖W‖, the worst weight
    # Of the logits on a few texts, relative to the adapter's own: how far the merged model is from the adapter, how
    # far rounding may take it, and how far the base is. Absent in reports of versions that did not check them.
    logits_difference: float | None = None
    logits_allowed: float | None = None
    adapter_effect: float | None = None
    seconds: float
    device: str
    peak_rss_mib: float | None = None
    peak_allocated_mib: float | None = None


def read_merge_report(folder: Path | str) -> MergeReport | None:
    """Return the report beside merged weights, or None if the model was merged elsewhere."""
    path = Path(folder) / MERGE_REPORT
    return read_model(MergeReport, path) if path.is_file() else None

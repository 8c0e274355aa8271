"""The merge: load, attach, merge weight by weight, save, and check what was saved against the adapter."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune.folders import copy_tokenizer
from finetune.merging.agreement import Agreement, check_agreement
from finetune.merging.saving import DEFAULT_SHARD_BYTES, check_saved, save_merged
from finetune.merging.strategies import Merging, start_merging
from harness.backends.local.device import free_bytes, is_out_of_memory, release_cached_memory, resolve_device
from harness.errors import HarnessError, InputError, first_line
from harness.files import replace_folder, write_model
from harness.variants.artifacts import ModelArtifact, adapter_facts, check_model_folder, resolve_model
from harness.variants.digests import digest_adapter_folder, digest_model_folder, is_model
from harness.variants.merge_report import MERGE_REPORT, LayerError, MergeReport
from harness.variants.model import MergeStrategy, Quantization, Variant
from harness.variants.weights import first_not_finite

WORST_LAYERS = 10


@dataclass(frozen=True)
class MergeOptions:
    """``strategy`` None: dequantized after 4-bit training, else original. ``device``: auto | cpu | cuda[:N].

    ``quantization`` None: from the adapter's record; without one, nf4 if the strategy is of 4-bit training, else none.
    """

    strategy: MergeStrategy | None = None
    device: str = "auto"
    quantization: str | None = None
    dtype: str | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    allow_base_mismatch: bool = False


def merge_adapter(base: str, adapter: Path, out: Path, options: MergeOptions | None = None) -> MergeReport:
    """Merge ``adapter`` into ``base`` and save the model, its tokenizer and its report as the folder ``out``.

    ``out`` appears only once everything in it has been checked. Raises InputError for unusable artefacts and
    HarnessError if a check fails: faulty dequantisation, a file that reads back differently, or a merged model whose
    logits are not the adapter's.
    """
    options = options or MergeOptions()
    model = check_model_folder(resolve_model(base))
    _refuse_to_replace(out, model.path, adapter)
    job = _Job.prepare(model, adapter, options)
    started = time.monotonic()
    with replace_folder(out) as folder, _failures_explained(job.device):
        merging = start_merging(job.strategy, job.base, adapter, job.device)
        layers = _errors(merging, adapter)
        dtype = str(merging.model.dtype).removeprefix("torch.")
        saved = job.saved(folder)
        four_bits = saved.quantization == "nf4"
        save_merged(merging.model, model, folder, dtype=dtype, four_bits=four_bits, shard_bytes=options.shard_bytes)
        copy_tokenizer(adapter, folder, fallback=model.path)
        check_model_folder(folder)
        check_saved(merging.model, saved, job.device)
        error, same_as = merging.largest_quantization_error, job.unmerged(merging.measured_as)
        del merging
        release_cached_memory(job.device)  # which is needed to load what was saved
        agreement = check_agreement(saved, same_as, job.device, lossy=four_bits)
        report = job.report(folder, dtype, layers, error, agreement, time.monotonic() - started)
        write_model(folder / MERGE_REPORT, report)
    return report


@contextmanager
def _failures_explained(device: str) -> Iterator[None]:
    """Raise HarnessError where torch ran out of memory or cannot run a model on the device."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        why = "it does not fit into memory" if is_out_of_memory(error) else first_line(error, 300)
        raise HarnessError(f"The merge failed on {device} ({why}). Merge on another device.") from error


def _errors(merging: Merging, adapter: Path) -> list[LayerError]:
    """Merge, and return the error of every parameter that the adapter changes, the largest first."""
    layers = []
    for one in merging.changes:
        layer = LayerError.of(one.name, one.before, one.target - one.before, one.rounded.float() - one.before)
        layers += [layer] if layer.delta_norm else []
    if not layers:
        raise InputError(f"{adapter} changes no weight: every ΔW is zero. Was the adapter trained and saved?")
    return sorted(layers, key=lambda layer: -layer.relative_error)


@dataclass(frozen=True)
class _Job:
    """Everything that is known before the merge begins. ``base`` is the base as it was trained over."""

    base: Variant
    adapter: Path
    strategy: MergeStrategy
    quantization_assumed: bool
    device: str
    base_digest: str

    @classmethod
    def prepare(cls, model: ModelArtifact, adapter: Path, options: MergeOptions) -> _Job:
        """Fill in what the options leave open from the record of the adapter's training."""
        facts = adapter_facts(adapter)
        known = options.quantization or facts.get("quantization")
        four_bits = options.strategy in ("dequantized", "in-place-4bit")
        quantization = known or ("nf4" if four_bits else "none")
        strategy: MergeStrategy = options.strategy or ("dequantized" if quantization == "nf4" else "original")
        if strategy == "dequantized" and quantization != "nf4":
            raise InputError(
                f"{adapter} was trained over an unquantised base, so there is nothing to dequantise: "
                "use --strategy original."
            )
        if model.config.get("quantization_config"):
            raise InputError(f"{model.path} is quantised; merge into the unquantised base it was made from.")
        found = first_not_finite(model.files)
        if found is not None:
            raise InputError(f"{found[0]}: tensor '{found[1]}' contains NaN or infinity.")
        base_digest = digest_model_folder(model.path)
        trained_over = facts.get("base_digest")
        if trained_over and not is_model(model.path, trained_over) and not options.allow_base_mismatch:
            raise InputError(
                f"{adapter} was not trained over the weights of {model.path}: their digests differ. "
                "Give the base it was trained over, or --allow-base-mismatch."
            )
        dtype = options.dtype or facts.get("dtype") or ("bfloat16" if quantization == "nf4" else "auto")
        base = Variant(name="base", kind="base", model=str(model.path), quantization=quantization, dtype=dtype)
        return cls(
            base=base,
            adapter=adapter,
            strategy=strategy,
            quantization_assumed=known is None and not four_bits,
            device=_device(options.device, model.nbytes),
            base_digest=base_digest,
        )

    def saved(self, folder: Path) -> Variant:
        """Return the merged model as it will be measured."""
        quantization: Quantization = "nf4" if self.strategy == "in-place-4bit" else "none"
        return Variant(
            name="merged", kind="merged", model=str(folder), quantization=quantization, dtype=self.base.dtype
        )

    def unmerged(self, base: Variant) -> Variant:
        """Return the adapter over ``base`` as it is measured."""
        return base.model_copy(update={"name": "adapter", "kind": "adapter", "adapter": str(self.adapter)})

    def report(
        self,
        folder: Path,
        dtype: str,
        layers: list[LayerError],
        quantization_error: float | None,
        agreement: Agreement,
        seconds: float,
    ) -> MergeReport:
        count = len(layers)
        return MergeReport(
            schema=1,
            strategy=self.strategy,
            dtype=dtype,
            trained_quantization=self.base.quantization,
            quantization_assumed=self.quantization_assumed,
            base=Path(self.base.model).name,
            adapter=self.adapter.name,
            base_digest=self.base_digest,
            adapter_digest=digest_adapter_folder(self.adapter),
            model_digest=digest_model_folder(folder),
            layers=count,
            mean_relative_error=sum(layer.relative_error for layer in layers) / count,
            mean_kept=sum(layer.kept for layer in layers) / count,
            # The norms of all layers as one vector.
            delta_to_weight=math.hypot(*(layer.delta_norm for layer in layers))
            / (math.hypot(*(layer.weight_norm for layer in layers)) or 1.0),
            worst_layers=tuple(layers[:WORST_LAYERS]),
            largest_quantization_error=quantization_error,
            logits_difference=agreement.difference,
            logits_allowed=agreement.allowed,
            adapter_effect=agreement.adapter_effect,
            seconds=round(seconds, 3),
            device=self.device,
            **_peaks(self.device),
        )


def _refuse_to_replace(out: Path, base: Path, adapter: Path) -> None:
    """Do not overwrite the base, the adapter or a model from another source: none can be recovered from the merge."""
    for what, path in (("base", base), ("adapter", adapter)):
        if out.resolve() == path.resolve():
            raise InputError(f"--out {out} is the {what} itself, which the merge would replace. Give another folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / MERGE_REPORT).is_file():
        raise InputError(f"{out} already contains files that no merge wrote; give an empty or new folder.")


def _device(wanted: str, model_bytes: int) -> str:
    """Return the device to merge on; ``auto`` is the GPU if the model, its check and the float32 copies fit there."""
    import torch

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise InputError(f"--device {wanted}: must be auto, cpu, cuda or cuda:N.")
    if wanted == "auto":
        found = resolve_device("auto")
        return found if found != "cpu" and free_bytes(found) > 2 * model_bytes else "cpu"
    number = int(wanted.partition(":")[2] or 0)
    if wanted.startswith("cuda") and number >= torch.cuda.device_count():
        raise InputError(f"--device {wanted}: this machine has no such usable CUDA device.")
    return resolve_device(wanted)


def _peaks(device: str) -> dict[str, float | None]:
    """Return the peak memory of the process so far, in MiB (ru_maxrss is in KiB on Linux)."""
    import resource
    import sys

    import torch

    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    allocated = round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if device.startswith("cuda") else None
    return {"peak_rss_mib": round(rss, 1), "peak_allocated_mib": allocated}

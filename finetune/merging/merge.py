"""The merge: every weight of the base is processed once, and the errors are collected."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.folders import copy_tokenizer
from finetune.merging.lora import AdapterPlan, plan_adapter
from finetune.merging.quantize import LinearModules, linear_modules, quantization_error
from finetune.merging.shards import DEFAULT_SHARD_BYTES, ShardWriter, stream_tensors
from finetune.merging.strategies import StrategyFunction, Weight, strategy_function
from harness.errors import HarnessError, InputError
from harness.files import replace_folder, write_model, write_text_atomically
from harness.variants.artifacts import ModelArtifact, adapter_facts, check_model_folder, resolve_model
from harness.variants.digests import digest_adapter_folder, digest_model_folder
from harness.variants.merge_report import MERGE_REPORT, LayerError, MergeReport
from harness.variants.model import MergeStrategy
from harness.variants.nf4 import dequantize, nf4_config, quantize

if TYPE_CHECKING:
    import torch

WORST_LAYERS = 10


@dataclass(frozen=True)
class MergeOptions:
    """``strategy`` None: dequantized after 4-bit training, else original. ``device``: auto | cpu | cuda[:N].

    ``quantization`` None: from the adapter's record, or nf4 if there is none.
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
    HarnessError if a check fails: weights not finite, faulty dequantisation, or a file that reads back differently.
    """
    options = options or MergeOptions()
    model = check_model_folder(resolve_model(base))
    _refuse_to_replace(out, model.path, adapter)
    job = _Job.prepare(model, adapter, options)
    started = time.monotonic()
    with replace_folder(out) as folder:
        writer = ShardWriter(folder, options.shard_bytes)
        tally = _Tally()
        seen: set[str] = set()
        for name, tensor in stream_tensors(model, job.device):
            seen.add(name)
            writer.add(job.merge_tensor(name, tensor, tally))
        unused = sorted({*job.plan.changes, *job.plan.replacements} - seen)
        if unused:
            raise HarnessError(f"The adapter's change to '{unused[0]}' was not used.")
        if not tally.layers:
            raise InputError(f"{adapter} changes no weight: every ΔW is zero. Was the adapter trained and saved?")
        writer.finish()
        job.write_configuration(folder)
        copy_tokenizer(adapter, folder, fallback=model.path)
        report = job.report(folder, tally, time.monotonic() - started)
        write_model(folder / MERGE_REPORT, report)
        check_model_folder(folder)
    return report


@dataclass
class _Tally:
    """The errors of the merge, weight by weight."""

    layers: list[LayerError] = field(default_factory=list)
    largest_quantization_error: float | None = None


@dataclass(frozen=True)
class _Job:
    """Everything that is the same for all weights."""

    model: ModelArtifact
    adapter: Path
    plan: AdapterPlan
    linear: LinearModules
    strategy: MergeStrategy
    function: StrategyFunction
    quantization: str
    quantization_assumed: bool
    dtype: torch.dtype
    device: str
    base_digest: str

    @classmethod
    def prepare(cls, model: ModelArtifact, adapter: Path, options: MergeOptions) -> _Job:
        """Fill in what the options leave open from the record of the adapter's training."""
        import torch
        from peft import LoraConfig

        device = _device(options.device)
        linear = linear_modules(model.path)
        plan = plan_adapter(adapter, model, linear.transposed)
        facts = adapter_facts(adapter)
        known = options.quantization or facts.get("quantization")
        quantization = known or "nf4"
        strategy = options.strategy or ("dequantized" if quantization == "nf4" else "original")
        if strategy == "dequantized" and quantization != "nf4":
            raise InputError(
                f"{adapter} was trained over an unquantised base, so there is nothing to dequantise: "
                "use --strategy original."
            )
        base_digest = digest_model_folder(model.path)
        trained_over = facts.get("base_digest")
        if trained_over and trained_over != base_digest and not options.allow_base_mismatch:
            raise InputError(
                f"{adapter} was not trained over the weights of {model.path}: their digests differ. "
                "Give the base it was trained over, or --allow-base-mismatch."
            )
        saved_in = model.config.get("dtype") or model.config.get("torch_dtype") or "bfloat16"
        dtype_name = options.dtype or facts.get("dtype") or ("bfloat16" if quantization == "nf4" else saved_in)
        if strategy == "in-place-4bit" and linear.transposed:
            raise InputError(f"{model.path} stores weights transposed (Conv1D), which in-place-4bit does not support.")
        dora, rslora = (bool(plan.config.get(key)) for key in ("use_dora", "use_rslora"))
        lora_config = LoraConfig(use_dora=dora, use_rslora=rslora, lora_dropout=0.0)
        return cls(
            model=model,
            adapter=adapter,
            plan=plan,
            linear=linear,
            strategy=strategy,
            function=strategy_function(strategy, lora_config),
            quantization=quantization,
            quantization_assumed=known is None,
            dtype=getattr(torch, dtype_name),
            device=device,
            base_digest=base_digest,
        )

    def merge_tensor(self, name: str, tensor: torch.Tensor, tally: _Tally) -> dict[str, torch.Tensor]:
        """Return the tensors to save for one tensor of the base."""
        import torch

        if name in self.plan.replacements:
            return {name: self.plan.replacements[name].to(self.dtype)}
        if not tensor.is_floating_point():
            return {name: tensor}
        module = name.removesuffix(".weight")
        change = self.plan.changes.get(name)
        linear = name.endswith(".weight") and module in self.linear.quantized
        if change is None and not (linear and self.strategy != "original"):
            return {name: tensor.to(self.dtype)}
        original = tensor.to(self.dtype)
        trained, in_four_bits = original.float(), linear and self.quantization == "nf4"
        if in_four_bits:
            transposed = module in self.linear.transposed  # transformers quantises these transposed
            held = dequantize(quantize(original.T if transposed else original))
            trained = (held.T if transposed else held).float()
            error = quantization_error(name, original, trained)
            tally.largest_quantization_error = max(error, tally.largest_quantization_error or 0.0)
        weight = Weight(name, original, trained, change, linear, self.dtype)
        merged = self.function(weight)
        if change is not None:
            layer = LayerError.of(name, trained, weight.target - trained, merged.effective - trained)
            tally.layers += [layer] if layer.delta_norm else []
        if not bool(torch.isfinite(merged.effective).all()):
            raise HarnessError(f"Merging made '{name}' NaN or infinite; its values exceed the range of {self.dtype}.")
        return dict(merged.tensors)

    def write_configuration(self, folder: Path) -> None:
        """Write config.json with the saved dtype, and copy the base's generation settings."""
        config = dict(self.model.config)
        config.pop("torch_dtype", None)
        config["dtype"] = str(self.dtype).removeprefix("torch.")
        if self.strategy == "in-place-4bit":
            config["quantization_config"] = nf4_config(config["dtype"]).to_dict()
        write_text_atomically(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        generation = self.model.path / "generation_config.json"
        if generation.is_file():
            shutil.copyfile(generation, folder / generation.name)

    def report(self, folder: Path, tally: _Tally, seconds: float) -> MergeReport:
        layers = sorted(tally.layers, key=lambda layer: -layer.relative_error)
        count = len(layers)
        return MergeReport(
            schema=1,
            strategy=self.strategy,
            dtype=str(self.dtype).removeprefix("torch."),
            trained_quantization=self.quantization,
            quantization_assumed=self.quantization_assumed,
            base=self.model.path.name,
            adapter=self.adapter.name,
            base_digest=self.base_digest,
            adapter_digest=digest_adapter_folder(self.adapter),
            model_digest=digest_model_folder(folder),
            layers=count,
            mean_relative_error=sum(layer.relative_error for layer in layers) / count,
            mean_kept=sum(layer.kept for layer in layers) / count,
            # The norms of all layers as one vector.
            delta_to_weight=math.hypot(*(layer.delta_norm for layer in layers))
            / math.hypot(*(layer.weight_norm for layer in layers)),
            worst_layers=tuple(layers[:WORST_LAYERS]),
            largest_quantization_error=tally.largest_quantization_error,
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


def _device(wanted: str) -> str:
    import torch

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise InputError(f"--device {wanted}: must be auto, cpu, cuda or cuda:N.")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    number = int(wanted.partition(":")[2] or 0)
    if wanted.startswith("cuda") and number >= torch.cuda.device_count():
        raise InputError(f"--device {wanted}: this machine has no such usable CUDA device.")
    return wanted


def _peaks(device: str) -> dict[str, float | None]:
    """Return the peak memory of the process so far, in MiB (ru_maxrss is in KiB on Linux)."""
    import resource
    import sys

    import torch

    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    allocated = round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if device.startswith("cuda") else None
    return {"peak_rss_mib": round(rss, 1), "peak_allocated_mib": allocated}

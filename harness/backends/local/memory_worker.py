"""A fresh process that loads one variant, runs the fixed workload and prints its memory use as one JSON line.

``FreshProcess`` runs it as ``python -m harness.backends.local.memory_worker``, with the request as JSON on standard
input. The number to gate on is the peak allocated on CUDA and the peak resident set on the CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from harness.backends.base import DoesNotFitError, MemoryWorkload
from harness.backends.local.device import places, synchronize
from harness.backends.local.libraries import import_for
from harness.backends.local.transformers_types import CausalLM
from harness.errors import HarnessError, first_line
from harness.machine import end_with, leave
from harness.variants.model import Variant

MIB = 2**20
WORKER = ("-m", "harness.backends.local.memory_worker")


class FreshProcess:
    """A process that imports the libraries every variant needs, and waits for the one that it is to measure."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, *WORKER, str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=_environment())

    def measure(self, variant: Variant, device: str, threads: int | None, workload: MemoryWorkload) -> dict[str, Any]:
        """Return what the process measured; raise HarnessError if it failed, or died without an answer.

        That a variant does not fit into memory is an answer (``error``).
        """
        variables = {"variant": variant.model_dump(mode="json"), "device": device, "threads": threads}
        try:
            out, errors = self._process.communicate(json.dumps({**variables, **asdict(workload)}))
        finally:
            self.end()
        try:
            answer = json.loads(out.strip().splitlines()[-1])
            failure = answer.pop("failure", None)
        except (IndexError, ValueError):
            failure = (errors.strip().splitlines() or ["no output"])[-1][:300]
            if self._process.returncode < 0:
                failure = f"its process was killed by signal {-self._process.returncode}, perhaps for lack of memory"
        if failure is not None:
            again = "Run the same command to measure it again."
            raise HarnessError(f"The memory of '{variant.name}' could not be measured: {failure.rstrip('.')}. {again}")
        return {"disk_mib": disk_mib(variant), **answer}

    def end(self) -> None:
        """End the process if it still runs."""
        self._process.kill()
        self._process.communicate()


def disk_mib(variant: Variant) -> float | None:
    """Return the size of the variant's weight files: the base's, and the adapter's if it has one."""
    folders = [Path(folder) for folder in (variant.model, variant.adapter) if folder]
    sizes = [file.stat().st_size for folder in folders if folder.is_dir() for file in folder.glob("*.safetensors")]
    return sum(sizes) / MIB if sizes else None


def _environment() -> dict[str, str]:
    """Return an environment in which the new process imports this package, whatever its working directory."""
    root = str(Path(__file__).resolve().parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def peak_rss_bytes() -> int:
    """Return this process's peak resident memory.

    On Linux this is VmHWM, which is reset for each program; ``ru_maxrss`` is inherited from the parent there, and a
    large harness would look like a large model.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """Load the variant, run the workload, and return sizes in MiB and times in seconds."""
    import torch

    from harness.backends.local.limits import footprint
    from harness.backends.local.pool import SharedPool

    device = question["device"]
    variant = Variant.model_validate(question["variant"])
    if question.get("threads"):
        torch.set_num_threads(question["threads"])
    # This comes first: a library may open the GPU on import, and that memory belongs to this process too.
    card = Card(device) if device.startswith("cuda") else None
    import_for((variant,))  # imports take longer than a small model and must not count as loading time
    before = peak_rss_bytes()
    start = time.perf_counter()
    pool = SharedPool((variant,), device, share=False)  # it alone is measured, so there is nothing to prove
    with pool.use(variant) as loaded, torch.inference_mode():
        if card:
            synchronize(device)
        load_seconds = time.perf_counter() - start
        allocated = card.total(torch.cuda.memory_allocated) if card else None
        sizes = footprint(loaded.model)
        weights = sizes.weights + sizes.adapter if allocated is None else allocated
        workload = (question["batch"], question["prompt_tokens"], question["reply_tokens"])
        growth = card.try_prompts(loaded.model, weights, *workload) if card else {}
        cache_bytes = run_workload(loaded.model, *workload)
    found: dict[str, Any] = {
        "device": device,
        "weights_mib": weights / MIB,
        "kv_cache_mib": cache_bytes / MIB,
        "kv_bytes_per_token": sizes.kv_per_token or None,
        "load_seconds": load_seconds,
        "rss_before_load_mib": before / MIB,
        "peak_rss_mib": peak_rss_bytes() / MIB,
    }
    return {**found, **card.peaks(weights, cache_bytes), **growth} if card else found


class Card:
    """A fresh process's use of a GPU, or of all over which layers are spread: then sizes are sums, peaks of each one's.

    The CUDA contexts are created here, so that they do not count as the model's.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.device = device
        self._used_before = self._nvml()["device"]
        self._loading_peak = 0
        for place in places(device):
            torch.zeros(1, device=place)
        self._reset_peaks()

    def total(self, count: Callable[[str], int]) -> int:
        """Return the sum over the GPUs of what ``count`` returns for each."""
        return sum(count(place) for place in places(self.device))

    def _reset_peaks(self) -> None:
        import torch

        for place in places(self.device):
            torch.cuda.reset_peak_memory_stats(place)

    def try_prompts(self, model: CausalLM, weights: int, batch: int, prompt: int, reply: int) -> dict[str, Any]:
        """Return the size of activations for the whole prompt and for a quarter of it, to show how they grow.

        Both use a reply of one token: the cache of a whole reply, subtracted from the prompt's peak, would be too much.
        The peak of loading is saved before the peaks are reset.
        """
        import torch

        synchronize(self.device)
        self._loading_peak = self.total(torch.cuda.max_memory_allocated)
        prompt = prompt_that_fits(model, prompt, reply)
        lengths = (max(1, prompt // 4), prompt)
        taken = []
        for tokens in lengths:
            self._reset_peaks()
            cache_bytes = run_workload(model, batch, tokens, 1)
            synchronize(self.device)
            peak = self.total(torch.cuda.max_memory_allocated)
            taken.append(max(0.0, (peak - weights - cache_bytes) / MIB))
        self._reset_peaks()
        workload = {"batch": batch, "prompt_tokens": prompt, "reply_tokens": reply}
        return {
            "workload": {**workload, "shorter_prompt_tokens": lengths[0]},
            "activations_shorter_mib": taken[0],
            "activations_prompt_mib": taken[1],
        }

    def peaks(self, weights: int, cache_bytes: int) -> dict[str, Any]:
        """Return the allocator's peaks and NVML's count for this process, in MiB.

        The peak allocated is that of the workload; that of loading is separate, because it depends on how many tensors
        happen to be in transit. Where the driver cannot distinguish processes (in most containers), NVML's figure is
        the growth of the GPU's total use.
        """
        import torch

        synchronize(self.device)
        peak = self.total(torch.cuda.max_memory_allocated)
        now = self._nvml()
        grown = None if self._used_before is None or now["device"] is None else now["device"] - self._used_before
        used = now["process"] or grown
        return {
            "peak_allocated_mib": peak / MIB,
            "peak_loading_mib": self._loading_peak / MIB,
            "peak_reserved_mib": self.total(torch.cuda.max_memory_reserved) / MIB,
            "activations_mib": max(0.0, (peak - weights - cache_bytes) / MIB),
            "nvml_used_mib": None if used is None else used / MIB,
            "nvml_counts": "process" if now["process"] else "growth of the card's use",
        }

    def _nvml(self) -> dict[str, int | None]:
        """Return the bytes in use on the GPU by all processes, and by this one; None where NVML does not know."""
        import pynvml

        from harness.machine import ask, physical_index

        unknown: dict[str, int | None] = {"device": None, "process": None}
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return unknown
        try:
            used: int | None = 0
            own = 0
            for place in places(self.device):
                card = physical_index(int(place.partition(":")[2]))
                handle = None if card is None else pynvml.nvmlDeviceGetHandleByIndex(card)
                whole = None if handle is None else ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
                used = None if used is None or whole is None else used + int(whole.used)
                processes = [] if handle is None else ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
                own += sum(process.usedGpuMemory or 0 for process in processes if process.pid == os.getpid())
            return {"device": used, "process": own or None}
        except pynvml.NVMLError:
            return unknown
        finally:
            pynvml.nvmlShutdown()


def run_workload(model: CausalLM, batch: int, prompt_tokens: int, reply_tokens: int) -> int:
    """Prefill a random prompt and decode step by step with the model's cache; return the cache's size in bytes.

    Only the last position's logits are computed, as in generation. Peak memory does not depend on the tokens.
    """
    import torch

    text = model.config.get_text_config()
    prompt_tokens = prompt_that_fits(model, prompt_tokens, reply_tokens)
    device = model.get_input_embeddings().weight.device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, int(text.vocab_size), (batch, prompt_tokens), generator=generator).to(device)
    cache = None
    for _ in range(reply_tokens):
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        tokens = output.logits[:, -1:].argmax(-1)
    return _cache_bytes(cache)


def prompt_that_fits(model: CausalLM, prompt_tokens: int, reply_tokens: int) -> int:
    """Return the prompt's length, shortened if needed so that the reply fits into the context."""
    text = model.config.get_text_config()
    limit = int(getattr(text, "max_position_embeddings", prompt_tokens + reply_tokens))
    return max(1, min(prompt_tokens, limit - reply_tokens))


def _cache_bytes(cache: Any) -> int:
    total = 0
    for layer in getattr(cache, "layers", ()):
        for name in ("keys", "values"):
            tensor = getattr(layer, name, None)
            if tensor is not None:
                total += int(tensor.numel() * tensor.element_size())
    return total


def main() -> NoReturn:
    """Answer one request: with sizes, with ``error`` if the variant does not fit, or with a ``failure`` to report."""
    end_with(int(sys.argv[1]))
    import_for(())
    question = json.load(sys.stdin)
    try:
        answer = measure(question)
    except DoesNotFitError as error:
        answer = {"error": str(error)}
    except HarnessError as error:
        answer = {"failure": str(error)}
    except (RuntimeError, MemoryError) as error:
        from harness.backends.local.device import is_out_of_memory

        kind = "error" if is_out_of_memory(error) else "failure"
        answer = {kind: f"{type(error).__name__}: {first_line(error, 300)}"}
    print("\n" + json.dumps(answer))
    leave(0)


if __name__ == "__main__":
    main()

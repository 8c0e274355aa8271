"""The machine: its processor, libraries and network, and whether it was busy or throttled while timing."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import platform
import re
import signal
import socket
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>
# NVML's throttle reasons that mean the GPU ran slower than requested (idle and application clocks do not).
_SLOWDOWNS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal (software)",
    0x40: "thermal (hardware)",
    0x80: "power brake",
}


def end_with(parent: int) -> None:
    """End this process as soon as ``parent``, the process that started it, has ended, even by SIGKILL.

    On Linux the kernel sends the signal when the thread that started this process ends; elsewhere a thread watches.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def leave(code: int) -> NoReturn:
    """End this process as ``sys.exit`` does, but without taking its modules down.

    With torch and transformers that takes a second. Whatever was registered for the end is called.
    """
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        sys.exit(code)  # the interpreter says what is wrong
    os._exit(code)


@contextmanager
def without_collecting_the_old() -> Iterator[None]:
    """Keep the garbage collector from walking what exists already; objects made in the block are collected as usual.

    After torch and transformers are imported, that walk is a fifth of the time of scoring replies and drawing a page.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def machine_state(device: str) -> dict[str, Any]:
    """Return the current load, governor and threads; on CUDA also clocks, temperature, power and processes."""
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    state: dict[str, Any] = {"threads": threads, "governor": _governor()}
    if hasattr(os, "getloadavg"):
        state["load_1min"] = round(os.getloadavg()[0], 2)
    if device.startswith("cuda"):
        state["gpu"] = gpu_state(int(device.partition(":")[2] or 0))
    return state


def gpu_state(index: int) -> dict[str, Any]:
    """Return clocks (MHz), temperature (°C), power (W), throttle reasons and other processes of one GPU.

    Empty if NVML is unavailable or does not know the GPU.
    """
    with nvml() as answers:
        if not answers:
            return {}
        import pynvml

        card = physical_index(index)
        handle = None if card is None else ask(pynvml.nvmlDeviceGetHandleByIndex, card)
        if handle is None:
            return {}
        reasons = ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
        power = ask(pynvml.nvmlDeviceGetPowerUsage, handle)
        limit = ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        processes = ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
        utilisation = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
        return {
            "sm_clock_mhz": ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
            "temperature_c": ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else round(power / 1000),
            "power_limit_w": None if limit is None else round(limit / 1000),
            "throttled": [name for bit, name in _SLOWDOWNS.items() if reasons & bit],
            "other_processes": others([process.pid for process in processes]),
            "utilisation_percent": None if utilisation is None else utilisation.gpu,
        }


@contextmanager
def nvml() -> Iterator[bool]:
    """Keep NVIDIA's management library open; yield whether it is available."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except (ImportError, OSError):  # no driver library on this machine
        yield False
        return
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def busy_warnings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the reasons to doubt timings taken between two states, one sentence each."""
    warnings = []
    threads = os.cpu_count() or 1
    load = before.get("load_1min", 0.0)
    if load > 0.5 * threads:
        warnings.append(f"The machine was busy before timing began (load {load} on {threads} threads).")
    for moment, state in (("before", before), ("after", after)):
        gpu = state.get("gpu") or {}
        if gpu.get("other_processes"):
            warnings.append(f"{len(gpu['other_processes'])} other process(es) used the GPU {moment} timing.")
        if gpu.get("throttled"):
            warnings.append(f"The GPU was throttled {moment} timing ({', '.join(gpu['throttled'])}).")
    return warnings


def others(pids: list[int]) -> list[int]:
    """Return the GPU's processes except this one, which may be listed under a PID from another namespace."""
    if os.getpid() in pids:
        return [pid for pid in pids if pid != os.getpid()]
    torch = sys.modules.get("torch")  # without torch this process uses no GPU
    return pids[1:] if torch is not None and torch.cuda.is_initialized() else pids


def ask(function: Any, *arguments: Any) -> Any:
    """Return the result of an NVML call, or None if this GPU or driver does not support it."""
    import pynvml

    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None


def physical_index(index: int) -> int | None:
    """Map torch's device index to NVML's, which ignores CUDA_VISIBLE_DEVICES; None for a GPU NVML does not know.

    CUDA_VISIBLE_DEVICES may list numbers, UUIDs or UUID prefixes; a MIG instance maps to the GPU it is part of. NVML
    must be initialised.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    if index >= len(entries):
        return index
    if entries[index].isdigit():
        return int(entries[index])
    return _card_of_instance(entries[index]) if entries[index].startswith("MIG-") else _card_called(entries[index])


def _card_called(beginning: str) -> int | None:
    import pynvml

    for index in range(ask(pynvml.nvmlDeviceGetCount) or 0):
        uuid = ask(pynvml.nvmlDeviceGetUUID, ask(pynvml.nvmlDeviceGetHandleByIndex, index)) or ""
        if (uuid.decode() if isinstance(uuid, bytes) else uuid).startswith(beginning):
            return index
    return None


def _card_of_instance(name: str) -> int | None:
    import pynvml

    old = re.match(r"MIG-(GPU-[^/]+)/", name)  # drivers before 470 named instances by the GPU's UUID
    if old:
        return _card_called(old[1])
    instance = ask(pynvml.nvmlDeviceGetHandleByUUID, name)
    card = None if instance is None else ask(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, instance)
    index = None if card is None else ask(pynvml.nvmlDeviceGetIndex, card)
    return None if index is None else int(index)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def cpu_name() -> str:
    """Return the processor's name as the system reports it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed libraries among ``names``, in the order given."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def hub_is_off() -> bool:
    """Return whether HF_HUB_OFFLINE is set."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def hub_is_reachable(timeout: float = 4.0) -> bool:
    """Return whether a connection to the Hub (or its proxy) opens within ``timeout`` seconds."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = urllib.parse.urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy)
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    opened = threading.Event()

    def probe() -> None:
        with suppress(OSError):
            socket.create_connection(address, timeout=timeout).close()
            opened.set()

    # In a thread, because name resolution has no timeout of its own.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(timeout)
    return opened.is_set()

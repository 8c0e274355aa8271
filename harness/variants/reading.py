"""What one reading of a weights file finds: of each tensor its SHA-256, and whether it is finite or all zeros.

Digests and checks need the same bytes, so they are read once. Threads share the tensors: one huge file takes no longer
than many small ones, and the least that reading takes is the time for the largest tensor. No torch here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from harness.errors import HarnessError, InputError
from harness.machine import usable_cores
from harness.variants.artifacts import TensorInfo, safetensors_header
from harness.variants.remembered import Identity, recall, remember

# A floating-point number is NaN or infinite exactly if all its exponent bits are set.
EXPONENTS: dict[str, tuple[Any, int]] = {
    "F64": (np.uint64, 0x7FF0000000000000),
    "F32": (np.uint32, 0x7F800000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_KIND = "tensors 1"  # raise the number when TensorFacts changes: what was remembered before is then not used
_BLOCK = 8 * 2**20  # bytes; hashlib and numpy release the GIL, and rarely have to ask for it again
_AHEAD = 256 * 2**20  # bytes
_MOST_THREADS = 16


@dataclass(frozen=True)
class TensorFacts:
    """One tensor. ``finite`` is also true for dtypes that are not looked at: integers, and floats of eight bits."""

    name: str
    dtype: str  # in the format's own words, e.g. BF16
    shape: tuple[int, ...]
    sha256: str  # of its bytes
    finite: bool
    zero: bool  # positive or negative


def read_weights(files: Sequence[Path], *, stop: Event | None = None) -> dict[Path, tuple[TensorFacts, ...]]:
    """Return the facts of every tensor by file; files that have not changed since are not read again.

    Raises InputError for a file that cannot be read or changes meanwhile. Setting ``stop`` ends the reading soon, with
    a HarnessError.
    """
    stop = stop or Event()
    identities = {file: Identity.of(file) for file in files}
    found = {file: _recalled(file, identity) for file, identity in identities.items()}
    unread = [file for file, facts in found.items() if facts is None]
    work = [(file, name, info) for file in unread for name, info in safetensors_header(file).items()]
    work.sort(key=lambda entry: -entry[2].nbytes)  # the largest first, or one is left for the end
    with ThreadPoolExecutor(min(usable_cores(), _MOST_THREADS)) as pool:
        try:
            read = list(pool.map(lambda one: _read(one[0], one[1], one[2], stop), work))
        except BaseException:
            stop.set()
            raise
    for file in unread:
        if Identity.of(file) != identities[file]:
            raise InputError(f"{file} changed while it was read. Run the same command again when it is complete.")
        facts = sorted((one for entry, one in zip(work, read, strict=True) if entry[0] == file), key=astuple)
        found[file] = tuple(facts)
        remember(_KIND, file, identities[file], [astuple(one) for one in facts])
    return {file: facts for file, facts in found.items() if facts is not None}


def read_ahead(files: Sequence[Path]) -> None:
    """Have the system read files into its cache, one after another, as long as there is memory for the next.

    What is there already takes no time. Errors are left to whoever loads the file.
    """
    import psutil

    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        for file in files:
            with file.open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                for begin in range(0, size, _AHEAD):
                    if size - begin > psutil.virtual_memory().available:
                        return
                    os.posix_fadvise(opened.fileno(), begin, _AHEAD, os.POSIX_FADV_WILLNEED)


def _recalled(file: Path, identity: Identity) -> tuple[TensorFacts, ...] | None:
    rows = recall(_KIND, file, identity)
    if rows is None:
        return None
    try:
        return tuple(
            TensorFacts(str(name), str(dtype), tuple(shape), str(sha256), finite, zero)
            for name, dtype, shape, sha256, finite, zero in rows
        )
    except (TypeError, ValueError):  # damaged
        return None


def _read(file: Path, name: str, info: TensorInfo, stop: Event) -> TensorFacts:
    unit, mask = EXPONENTS.get(info.dtype, (np.uint8, None))
    unsigned = np.iinfo(unit).max >> (0 if mask is None else 1)
    digest = hashlib.sha256()
    finite = zero = True
    buffer = memoryview(bytearray(min(_BLOCK, info.nbytes)))
    try:
        with file.open("rb") as opened:
            opened.seek(info.begin)
            for begin in range(0, info.nbytes, _BLOCK):
                if stop.is_set():
                    raise HarnessError(f"{file} was not read to its end.")
                block = buffer[: info.nbytes - begin]
                if opened.readinto(block) != len(block):
                    raise InputError(f"{file} is truncated. Copy or save it again.")
                digest.update(block)
                bits = np.frombuffer(block, unit)
                finite = finite and (mask is None or bool((bits & unit(mask)).max() != mask))
                zero = zero and not bool((bits & unit(unsigned)).any())
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from error
    return TensorFacts(name, info.dtype, info.shape, digest.hexdigest(), finite, zero)

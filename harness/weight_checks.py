"""What weight files can be asked without loading a model: are their numbers finite, do they say anything at all.

Files are mapped and read in blocks, so a 7 B model needs no memory to speak of. No torch here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 16 * 1024 * 1024  # numbers looked at in one go
# A floating-point number is NaN or infinite exactly where all its exponent's bits are set.
_EXPONENTS: dict[str, tuple[Any, int]] = {
    "F64": (np.uint64, 0x7FF0000000000000),
    "F32": (np.uint32, 0x7F800000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_THREADS = 4  # numpy lets go of the interpreter while it reads


@dataclass(frozen=True)
class StoredTensor:
    """A tensor within a safetensors file; ``bits`` are its numbers' bit patterns (or bytes, for other dtypes)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: np.ndarray[Any, np.dtype[Any]]


def stored_tensors(path: Path) -> Iterator[StoredTensor]:
    """Yield every tensor of a safetensors file, mapped and not read. The file must have passed its header check."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = np.memmap(path, mode="r", dtype=np.uint8)[8 + length :]
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        unit = _EXPONENTS.get(entry["dtype"], (np.uint8, 0))[0]
        yield StoredTensor(name, entry["dtype"], tuple(entry["shape"]), data[start:end].view(unit))


def first_not_finite(files: tuple[Path, ...]) -> tuple[Path, str] | None:
    """Return the first file and tensor that holds NaN or Inf, or None."""
    work = [(path, tensor) for path in files for tensor in stored_tensors(path) if tensor.dtype in _EXPONENTS]
    with ThreadPoolExecutor(_THREADS) as pool:
        verdicts = pool.map(lambda item: _is_finite(item[1]), work)
        return next(
            ((path, tensor.name) for (path, tensor), fine in zip(work, verdicts, strict=True) if not fine), None
        )


def is_all_zero(tensor: StoredTensor) -> bool:
    """Tell whether a tensor holds nothing but (plus or minus) zero."""
    if tensor.dtype not in _EXPONENTS:
        return not tensor.bits.any()
    sign = tensor.bits.dtype.type(1 << (tensor.bits.dtype.itemsize * 8 - 1))
    return not (tensor.bits & ~sign).any()


def _is_finite(tensor: StoredTensor) -> bool:
    mask = tensor.bits.dtype.type(_EXPONENTS[tensor.dtype][1])
    for start in range(0, tensor.bits.size, _BLOCK):
        exponents = tensor.bits[start : start + _BLOCK] & mask
        if exponents.size and exponents.max() == mask:
            return False
    return True

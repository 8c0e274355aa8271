"""Checks of weight files without loading a model: finite values, changes from a base.

Where numbers are compared, files are memory-mapped and read in blocks, so even a 7 B model needs little memory. No
torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.variants.artifacts import ModelArtifact, safetensors_header
from harness.variants.reading import EXPONENTS, read_weights

Bits = np.ndarray[Any, np.dtype[Any]]

_BLOCK = 16 * 1024 * 1024  # numbers per block


@dataclass(frozen=True)
class StoredTensor:
    """A tensor within a safetensors file; ``bits`` are the bit patterns of its numbers (bytes for non-float dtypes)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: Bits


def stored_tensors(path: Path) -> Iterator[StoredTensor]:
    """Yield every tensor of a safetensors file, memory-mapped."""
    data = np.memmap(path, mode="r", dtype=np.uint8)
    for name, info in safetensors_header(path).items():
        unit = EXPONENTS.get(info.dtype, (np.uint8, 0))[0]
        yield StoredTensor(name, info.dtype, info.shape, data[info.begin : info.begin + info.nbytes].view(unit))


def first_not_finite(files: tuple[Path, ...]) -> tuple[Path, str] | None:
    """Return the first file and tensor that holds NaN or Inf, or None."""
    read = read_weights(files)
    return next(((file, one.name) for file in files for one in read[file] if not one.finite), None)


def first_changed_weight(model: ModelArtifact, base: ModelArtifact) -> str | None:
    """Return the name of a weight that differs between ``model`` and ``base``, or None if all are equal.

    Different dtypes are compared after rounding the wider to the narrower, so that a base saved in another dtype is
    recognised. Weights that only one of them has are ignored if they share any.
    """
    shared = sorted(set(model.tensors) & set(base.tensors), key=_likely_changed)
    if not shared:
        return next(iter(model.tensors), None)
    known = read_weights((*model.files, *base.files))
    read = [{tensor.name: tensor for file in one.files for tensor in known[file]} for one in (model, base)]
    held = [{tensor.name: tensor for file in one.files for tensor in stored_tensors(file)} for one in (model, base)]

    def same(name: str) -> bool:
        ours, theirs = (facts[name] for facts in read)
        if ours.dtype == theirs.dtype:
            return (ours.shape, ours.sha256) == (theirs.shape, theirs.sha256)
        return _same_rounded(held[0][name], held[1][name])

    return next((name for name in shared if not same(name)), None)


def _likely_changed(name: str) -> tuple[bool, str]:
    """Sort key that puts embeddings last: they are the largest tensors and adapters rarely change them."""
    return "embed" in name or "lm_head" in name, name


def _same_rounded(one: StoredTensor, other: StoredTensor) -> bool:
    """Return whether tensors of two dtypes are the same numbers in the narrower one."""
    if one.shape != other.shape or not {one.dtype, other.dtype} <= set(EXPONENTS):
        return False
    narrow = min(one.dtype, other.dtype, key=_width)
    for start in range(0, one.bits.size, _BLOCK):
        a, b = one.bits[start : start + _BLOCK], other.bits[start : start + _BLOCK]
        if not np.array_equal(_rounded(a, one.dtype, narrow), _rounded(b, other.dtype, narrow)):
            return False
    return True


def _width(dtype: str) -> tuple[int, bool]:
    """Sort key by precision near one; of the two 16-bit dtypes, BF16 is coarser."""
    return np.dtype(EXPONENTS[dtype][0]).itemsize, dtype != "BF16"


def _rounded(bits: Bits, dtype: str, narrow: str) -> Bits:
    """Return numbers rounded to ``narrow`` (to nearest, ties to even, as libraries do), as float32."""
    kinds: dict[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
    if dtype == "BF16":
        wide = bits.astype(np.uint32) << 16
    elif narrow == "BF16":
        whole = bits.view(kinds[dtype]).astype(np.float32).view(np.uint32)
        wide = (whole + 0x7FFF + ((whole >> 16) & 1)) & np.uint32(0xFFFF0000)
    else:
        with np.errstate(over="ignore"):
            wide = bits.view(kinds[dtype]).astype(kinds[narrow]).astype(np.float32).view(np.uint32)
    numbers: Bits = wide.view(np.float32)
    return numbers

"""Triton's kernels against plain arithmetic: on a CUDA device, or with TRITON_INTERPRET=1 in its interpreter."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CAN_RUN = importlib.util.find_spec("triton") is not None and (torch.cuda.is_available() or INTERPRETED)
pytestmark = pytest.mark.skipif(not CAN_RUN, reason="needs a CUDA device, or tox run -e kernels")
DEVICE = "cpu" if INTERPRETED else "cuda"
# The interpreter multiplies bfloat16 wrongly.
DTYPES = [torch.float32] if INTERPRETED else [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def kernels() -> Any:
    from harness.backends.local import kernels

    return kernels


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE, dtype)


def test_few_rows_over_many_columns_are_cut_into_parts(kernels: Any) -> None:
    assert kernels._parts(256 * 32, 4096) == 1
    assert kernels._parts(32, 4096) == 8
    assert kernels._parts(8, 300) == 2
    assert kernels._parts(1, 64) == 1


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    """Equal up to two units in the last place of the largest number."""
    assert got.dtype == want.dtype
    allowed = 2 * torch.finfo(want.dtype).eps * max(1.0, float(want.abs().max()))
    torch.testing.assert_close(got, want, rtol=0, atol=max(allowed, 2e-6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [64, 100])
def test_rms_norm(kernels: Any, dtype: torch.dtype, width: int) -> None:
    x, weight = random(3, 5, width, dtype=dtype), random(width, dtype=dtype)
    wide = x.float()
    want = weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(dtype)
    close(kernels.rms_norm(x, weight, 1e-5), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_whose_weight_counts_from_one_is_rounded_once(kernels: Any, dtype: torch.dtype) -> None:
    x, weight = random(3, 5, 100, dtype=dtype), random(100, dtype=dtype)
    wide = x.float()
    want = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5) * (1.0 + weight.float())).to(dtype)
    close(kernels.rms_norm(x, weight, 1e-5, from_one=True), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_times(kernels: Any, dtype: torch.dtype) -> None:
    gate, up = random(3, 7, 700, dtype=dtype), random(3, 7, 700, dtype=dtype)
    close(kernels.silu_times(gate, up), torch.nn.functional.silu(gate) * up)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_times(kernels: Any, dtype: torch.dtype) -> None:
    gate, up = 3 * random(3, 7, 700, dtype=dtype), random(3, 7, 700, dtype=dtype)
    close(kernels.gelu_times(gate, up), torch.nn.functional.gelu(gate, approximate="tanh") * up)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle_rows", [1, 2])
@pytest.mark.parametrize("width", [32, 48])
def test_rotate(kernels: Any, dtype: torch.dtype, angle_rows: int, width: int) -> None:
    x = random(2, 5, 3, width, dtype=dtype).transpose(1, 2)  # as a projection leaves it: tokens before heads
    cosines, sines = random(angle_rows, 5, width, dtype=dtype), random(angle_rows, 5, width, dtype=dtype)
    first, second = x.chunk(2, dim=-1)
    close(kernels.rotate(x, cosines, sines), x * cosines[:, None] + torch.cat((-second, first), -1) * sines[:, None])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (32, 1)])
@pytest.mark.parametrize("width", [32, 96])
@pytest.mark.parametrize("columns", [200, 600])  # in one part, and in several that are joined
def test_attention_over_each_rows_own_length(
    kernels: Any, dtype: torch.dtype, heads: int, groups: int, width: int, columns: int
) -> None:
    lengths = torch.tensor([1, 64, columns - 50], dtype=torch.int32, device=DEVICE)
    query, store = random(3, heads, width, dtype=dtype), random(2, 3, columns, groups, width, dtype=dtype)
    for row, length in enumerate(lengths.tolist()):
        store[:, row, length:] = float("nan")  # what lies beyond must not even be multiplied by zero
    keys, values = store.transpose(2, 3)
    got = kernels.attend(query, keys, values, lengths, width**-0.5)
    for row, length in enumerate(lengths.tolist()):
        k, v = (part[row, :, :length].repeat_interleave(heads // groups, 0).float() for part in (keys, values))
        scores = query[row].float()[:, None] @ k.transpose(1, 2) * width**-0.5
        close(got[row], (scores.softmax(-1) @ v)[:, 0].to(dtype))


@pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device")
def test_flash_attention_of_this_torch_reads_windows() -> None:
    from harness.backends.local import windows

    assert windows._flash_reads_windows(torch.device("cuda", torch.cuda.current_device()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2)])
@pytest.mark.parametrize("columns", [200, 600])
@pytest.mark.parametrize(("window", "softcap", "sinks"), [(70, 0.0, False), (0, 5.0, False), (300, 0.0, True)])
def test_attention_with_a_window_a_soft_cap_or_sinks(
    kernels: Any, dtype: torch.dtype, heads: int, groups: int, columns: int, window: int, softcap: float, sinks: bool
) -> None:
    lengths = torch.tensor([1, 71, columns - 50], dtype=torch.int32, device=DEVICE)
    query, store = random(3, heads, 32, dtype=dtype), random(2, 3, columns, groups, 32, dtype=dtype)
    extra = random(heads, dtype=dtype) if sinks else None
    firsts = [max(0, length - window) if window else 0 for length in lengths.tolist()]
    for row, (first, length) in enumerate(zip(firsts, lengths.tolist(), strict=True)):
        store[:, row, :first] = store[:, row, length:] = float("nan")
    keys, values = store.transpose(2, 3)
    got = kernels.attend(query, keys, values, lengths, 0.3, window, softcap, extra)
    for row, (first, length) in enumerate(zip(firsts, lengths.tolist(), strict=True)):
        k, v = (part[row, :, first:length].repeat_interleave(heads // groups, 0).float() for part in (keys, values))
        scores = (query[row].float()[:, None] @ k.transpose(1, 2) * 0.3)[:, 0]
        if softcap:
            scores = softcap * (scores / softcap).tanh()
        if extra is not None:
            scores = torch.cat((scores, extra.float()[:, None]), dim=-1)
        shares = scores.softmax(-1)[:, : length - first]
        close(got[row], (shares[:, None] @ v)[:, 0].to(dtype))

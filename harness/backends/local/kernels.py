"""Triton kernels for a decoder's work between matrix products, each with a single pass over memory.

They cover what most decoders share, and ``fused_layers`` checks each against the loaded model before using it. Sums
are in fp32 and results are rounded where the original modules round, so results differ only by order of summation.
Import this module only if ``fused_layers.why_unavailable`` returns None: Triton comes with CUDA builds of torch only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# An attention program of two warps reads this many keys at a time. Of 16 to 128 keys and 2 to 8 warps, this setting
# comes closest to an H100's memory speed (2.8 of 3.0 TB/s at 256 rows of 230 keys, 32 heads of 128).
COLUMNS_AT_ONCE = 32
WARPS = 2
FEWEST_QUERIES = 16  # rows of the smallest matrix product
ENOUGH_PROGRAMS = 256  # about two for each processor of an H100
COLUMNS_A_PART = 128  # at least; like the line above estimated, not measured
LOWEST = tl.constexpr(-1e30)  # in place of -∞, whose difference from itself is NaN


@triton.jit
def _rms_norm(x, weight, out, width, eps, BLOCK: tl.constexpr, FROM_ONE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    inside = places < width
    values = tl.load(x + row * width + places, mask=inside, other=0.0)
    wide = values.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    normed = wide * scale
    weights = tl.load(weight + places, mask=inside, other=0.0).to(tl.float32)
    if FROM_ONE:  # rounded once, at the end
        weights += 1.0
    else:
        normed = normed.to(values.dtype).to(tl.float32)
    tl.store(out + row * width + places, (normed * weights).to(values.dtype), mask=inside)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, from_one: bool = False) -> torch.Tensor:
    """Return ``weight · x / √(mean(x²) + eps)`` over the last dimension of a contiguous ``x``.

    With ``from_one``, as in Gemma, the factor is 1 + weight.
    """
    width = x.shape[-1]
    out = torch.empty_like(x)
    block = triton.next_power_of_2(width)
    warps = min(8, max(1, block // 512))
    _rms_norm[(x.numel() // width,)](x, weight, out, width, eps, BLOCK=block, FROM_ONE=from_one, num_warps=warps)
    return out


@triton.jit
def _gate_times(gate, up, out, count, BLOCK: tl.constexpr, GELU: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    gates = tl.load(gate + places, mask=inside, other=0.0)
    wide = gates.to(tl.float32)
    slope = wide
    if GELU:  # (1 + tanh(x)) / 2 is the sigmoid of 2x
        slope = 1.5957691216057308 * (wide + 0.044715 * wide * wide * wide)  # 2 · √(2/π)
    opened = (wide * tl.sigmoid(slope)).to(gates.dtype).to(tl.float32)
    ups = tl.load(up + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + places, (opened * ups).to(gates.dtype), mask=inside)


def silu_times(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return ``silu(gate) · up`` of two contiguous tensors of one shape."""
    return _gated(gate, up, gelu=False)


def gelu_times(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return ``gelu(gate) · up``, with gelu's approximation by tanh, of two contiguous tensors of one shape."""
    return _gated(gate, up, gelu=True)


def _gated(gate: torch.Tensor, up: torch.Tensor, *, gelu: bool) -> torch.Tensor:
    out = torch.empty_like(gate)
    block = 2048
    _gate_times[(triton.cdiv(gate.numel(), block),)](gate, up, out, gate.numel(), BLOCK=block, GELU=gelu, num_warps=8)
    return out


@triton.jit
def _rotate(
    x, cosines, sines, out, tokens, heads, halved, x_row, x_head, x_token, angle_row,
    HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    row, place = token // tokens, token % tokens
    head = tl.arange(0, HEADS)[:, None]
    half = tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (half < halved)
    known = half < halved
    source = x + row * x_row + place * x_token + head * x_head + half
    angles = row * angle_row + place * (2 * halved) + half
    read = tl.load(source, mask=inside, other=0.0)
    rounded = read.dtype
    first = read.to(tl.float32)
    second = tl.load(source + halved, mask=inside, other=0.0).to(tl.float32)
    cos_first = tl.load(cosines + angles, mask=known, other=0.0).to(tl.float32)
    sin_first = tl.load(sines + angles, mask=known, other=0.0).to(tl.float32)
    cos_second = tl.load(cosines + angles + halved, mask=known, other=0.0).to(tl.float32)
    sin_second = tl.load(sines + angles + halved, mask=known, other=0.0).to(tl.float32)
    # Each product is rounded separately, as it is where cosine and sine are separate operations.
    new_first = (first * cos_first).to(rounded).to(tl.float32) - (second * sin_first).to(rounded).to(tl.float32)
    new_second = (second * cos_second).to(rounded).to(tl.float32) + (first * sin_second).to(rounded).to(tl.float32)
    target = out + (token * heads + head) * (2 * halved) + half
    tl.store(target, new_first.to(rounded), mask=inside)
    tl.store(target + halved, new_second.to(rounded), mask=inside)


def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Return ``x`` [rows, heads, tokens, width] rotated by angles [rows or 1, tokens, width], half against half.

    Each head must be contiguous, and so must the angles. The result is laid out [rows, tokens, heads, width].
    """
    rows, heads, tokens, width = x.shape
    out = torch.empty((rows, tokens, heads, width), dtype=x.dtype, device=x.device)
    _rotate[(rows * tokens,)](
        x, cosines, sines, out, tokens, heads, width // 2, x.stride(0), x.stride(1), x.stride(2),
        0 if cosines.shape[0] == 1 else cosines.stride(0),
        HEADS=triton.next_power_of_2(heads), HALF=triton.next_power_of_2(width // 2), num_warps=4,
    )  # fmt: skip
    return out.transpose(1, 2)


@triton.jit
def _attend(
    query, keys, values, sinks, out, peaks, totals, lengths, scale, softcap, window, true_width,
    query_row, query_head, key_row, key_head, key_column, value_row, value_head, value_column,
    GROUP: tl.constexpr, QUERIES: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr,
    CAPPED: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Attend from one row's queries to one part of one head's keys, block by block with a running maximum.

    With several parts the stored result is unnormalised, together with each part's maximum and sum of exponentials.
    A sink is a score without a value; the first part counts it.
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    part = tl.program_id(2)
    length = tl.load(lengths + row)
    first = tl.maximum(length - window, 0)
    each = tl.cdiv(length - first, PARTS * COLUMNS) * COLUMNS
    members = tl.arange(0, QUERIES)[:, None]
    width = tl.arange(0, WIDTH)[None, :]
    wide = width < true_width
    mine = query + row * query_row + (head * GROUP + members) * query_head + width
    queries = tl.load(mine, mask=(members < GROUP) & wide, other=0.0)
    highest = tl.full([QUERIES, 1], LOWEST, tl.float32)
    total = tl.zeros([QUERIES, 1], tl.float32)
    found = tl.zeros([QUERIES, WIDTH], tl.float32)
    if SINKS:
        sink = tl.load(sinks + head * GROUP + members, mask=members < GROUP, other=0.0)
        highest = tl.where(part == 0, sink.to(tl.float32), highest)
        total += tl.where(part == 0, 1.0, 0.0)
    for start in range(first + part * each, tl.minimum(length, first + (part + 1) * each), COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = column < length
        key_at = keys + row * key_row + head * key_head + column[:, None] * key_column + width
        value_at = values + row * value_row + head * value_head + column[:, None] * value_column + width
        key = tl.load(key_at, mask=inside[:, None] & wide, other=0.0)
        value = tl.load(value_at, mask=inside[:, None] & wide, other=0.0)
        if GROUP == 1:  # a product of one row would leave fifteen sixteenths of a matrix unit idle
            scores = tl.sum(queries.to(tl.float32) * key.to(tl.float32), axis=1)[None, :]
        else:
            scores = tl.dot(queries, tl.trans(key), input_precision="ieee")
        scores *= scale
        if CAPPED:  # softcap · tanh(scores / softcap)
            scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)
        scores = tl.where(inside[None, :], scores, float("-inf"))
        peak = tl.maximum(highest, tl.max(scores, axis=1)[:, None])
        kept = tl.exp(highest - peak)
        shares = tl.exp(scores - peak)
        total = total * kept + tl.sum(shares, axis=1)[:, None]
        if GROUP == 1:
            weighted = tl.sum(tl.trans(shares) * value.to(tl.float32), axis=0)[None, :]
        else:
            weighted = tl.dot(shares.to(value.dtype), value, input_precision="ieee")
        found = found * kept + weighted
        highest = peak
    place = ((row * tl.num_programs(1) + head) * GROUP + members) * PARTS + part
    if PARTS == 1:
        tl.store(out + place * true_width + width, (found / total).to(queries.dtype), mask=(members < GROUP) & wide)
    else:
        tl.store(out + place * true_width + width, found, mask=(members < GROUP) & wide)
        tl.store(peaks + place, highest, mask=members < GROUP)
        tl.store(totals + place, total, mask=members < GROUP)


@triton.jit
def _join(parts, peaks, totals, out, true_width, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    """Combine one head's parts. A part without columns has a sum of zero and no weight."""
    head = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, PARTS)
    width = tl.arange(0, WIDTH)
    highest = tl.load(peaks + head * PARTS + part)
    weight = tl.exp(highest - tl.max(highest, axis=0))
    total = tl.sum(tl.load(totals + head * PARTS + part) * weight, axis=0)
    at = parts + (head * PARTS + part)[:, None] * true_width + width[None, :]
    found = tl.load(at, mask=width[None, :] < true_width, other=0.0)
    joined = tl.sum(found * weight[:, None], axis=0) / total
    tl.store(out + head * true_width + width, joined.to(out.dtype.element_ty), mask=width < true_width)


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return attention [rows, heads, width] of one query per row over its first ``lengths[row]`` (1 or more) keys.

    ``query`` is [rows, heads, width]; ``keys`` and ``values`` are [rows, key heads, columns, width], and each
    head is contiguous. Nothing beyond a row's length is read, and with a ``window`` only that many of its last keys.
    A ``softcap`` bounds the scores smoothly; ``sinks`` [heads] are scores that take a share of the softmax but have no
    value (0 and None: without).
    """
    rows, heads, width = query.shape
    groups, columns = keys.shape[1:3]
    together = heads // groups
    parts = _parts(rows * groups, min(columns, window or columns))
    out = torch.empty((rows, heads, width), dtype=query.dtype, device=query.device)
    found, peaks, totals = out, out, out
    if parts > 1:
        found = torch.empty((rows, heads, parts, width), dtype=torch.float32, device=query.device)
        peaks, totals = torch.empty((2, rows, heads, parts), dtype=torch.float32, device=query.device)
    _attend[(rows, groups, parts)](
        query, keys, values, query if sinks is None else sinks, found, peaks, totals, lengths,
        scale, softcap, window or columns, width,
        query.stride(0), query.stride(1), *keys.stride()[:3], *values.stride()[:3],
        GROUP=together, QUERIES=1 if together == 1 else max(FEWEST_QUERIES, triton.next_power_of_2(together)),
        WIDTH=triton.next_power_of_2(width), COLUMNS=COLUMNS_AT_ONCE, PARTS=parts,
        CAPPED=softcap > 0.0, SINKS=sinks is not None, num_warps=WARPS,
    )  # fmt: skip
    if parts > 1:
        _join[(rows * heads,)](
            found, peaks, totals, out, width, PARTS=parts, WIDTH=triton.next_power_of_2(width), num_warps=WARPS
        )
    return out


def _parts(programs: int, columns: int) -> int:
    """Return how many parts a head's columns are split into, so that a small batch still fills the device."""
    wanted: int = triton.next_power_of_2(triton.cdiv(ENOUGH_PROGRAMS, programs))
    most = max(1, columns // COLUMNS_A_PART)
    return min(wanted, 1 << (most.bit_length() - 1))

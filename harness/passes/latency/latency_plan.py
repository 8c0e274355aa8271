"""Which request is timed when. Pure, so that the interleaving can be tested without a clock.

Variants are interleaved for each prompt in a random order that is mirrored in the next repeat (A B, then B A): a
drift that is linear over a prompt's repeats then falls on all variants alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mirrored_orders(variants: Sequence[str], repeats: int, rng: np.random.Generator) -> list[list[str]]:
    """Return for each repeat the order of the variants: a fresh shuffle, then its mirror image, and so on."""
    orders: list[list[str]] = []
    for repeat in range(repeats):
        if repeat % 2 == 0:
            orders.append([variants[index] for index in rng.permutation(len(variants))])
        else:
            orders.append(orders[-1][::-1])
    return orders


def choose_prompts(lengths: Sequence[int], count: int, longest: int) -> list[int]:
    """Return the indices of up to ``count`` prompts that fit (``<= longest`` tokens), spread evenly over the lengths.

    They come back in their own order, which has nothing to do with length.
    """
    fitting = sorted((length, index) for index, length in enumerate(lengths) if length <= longest)
    if len(fitting) > count:
        picks = np.linspace(0, len(fitting) - 1, count).round().astype(int)
        fitting = [fitting[pick] for pick in picks]
    return sorted(index for _, index in fitting)


def prompt_lengths(context: int, asked: Sequence[int] | None) -> list[int]:
    """Return the lengths at which TTFT is measured: those asked for, else powers of four from 32 up to the context."""
    lengths = asked or [32, 128, 512, 2048, 8192]
    return sorted({length for length in lengths if length < context})


def batches(items: Sequence[int], size: int, count: int) -> list[list[int]]:
    """Return ``count`` batches of ``size`` items taken in turn, starting over where they run out."""
    if not items:
        return []
    return [[items[(batch * size + row) % len(items)] for row in range(size)] for batch in range(count)]

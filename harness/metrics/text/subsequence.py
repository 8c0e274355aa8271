"""Longest common subsequences for ROUGE: rouge_score's own values, by bit-parallel arithmetic.

They account for nearly all of rouge_score's time, which is twenty times longer (benchmarks/test_metrics_speed.py).

ROUGE-Lsum depends on *which* longest common subsequence is taken. rouge_score fills a table and walks back through
it: diagonally on equal tokens, else left where the cell to the left is larger than the one above, else up. Here a row
of the table is one integer: bit j is 0 where the table grows from column j to j + 1 (Hyyrö, "Bit-parallel LCS-length
computation revisited", 2004). The same walk needs one step per row: where the cell above is smaller, the walk goes left
to the nearest equal token, because between there and here the row does not grow; else it goes up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from math import isqrt

from rapidfuzz.distance import LCSseq

Tokens = Sequence[Hashable]
SMALL = 1 << 24  # largest table in bits that is kept whole; larger ones are kept in part and computed twice


def lcs_length(left: Tokens, right: Tokens) -> int:
    """Return the length of the longest common subsequence."""
    return LCSseq.similarity(left, right) if left and right else 0


def lcs_positions(reference: Tokens, candidate: Tokens) -> list[int]:
    """Return the reference's positions in the longest common subsequence that rouge_score would pick (descending)."""
    wanted = set(reference)
    masks: dict[Hashable, int] = {}
    for column, token in enumerate(candidate):
        if token in wanted:
            masks[token] = masks.get(token, 0) | (1 << column)
    rows = [row for row, token in enumerate(reference) if token in masks]  # rows without a match change nothing
    return _walk_back(rows, [masks[reference[row]] for row in rows], len(candidate))


def _walk_back(rows: list[int], matches: list[int], width: int) -> list[int]:
    full = (1 << width) - 1
    step = len(rows) if len(rows) * width <= SMALL else isqrt(len(rows)) + 1
    checkpoints = [full]
    state = full
    for index, match in enumerate(matches, 1):
        state = _next_row(state, match, full)
        if index % step == 0:
            checkpoints.append(state)
    taken: list[int] = []
    column = width
    length = width - state.bit_count()
    for block in range((len(rows) - 1) // step, -1, -1):
        if length == 0:
            break
        start = block * step
        states = [checkpoints[block]]
        for match in matches[start : start + step - 1]:
            states.append(_next_row(states[-1], match, full))
        for index in range(min(start + step, len(rows)) - 1, start - 1, -1):
            below = (1 << column) - 1
            reachable = matches[index] & below
            if not reachable:
                continue
            nearest = reachable.bit_length()
            above = column - (states[index - start] & below).bit_count()
            if nearest == column or above < length:
                taken.append(rows[index])
                column = nearest - 1
                length -= 1
                if length == 0:
                    break
    return taken


def _next_row(state: int, match: int, full: int) -> int:
    hit = state & match
    return ((state + hit) | (state - hit)) & full


def union_lcs_hits(reference: Sequence[Tokens], candidate: Sequence[Tokens]) -> int:
    """Return the hits of summary-level LCS, as ROUGE 1.5.5 and rouge_score count them.

    These are, over the reference sentences, the tokens in the union of the LCS with each candidate sentence. None is
    counted more often than it occurs on either side.
    """
    if len(reference) == 1 and len(candidate) == 1:
        return lcs_length(reference[0], candidate[0])
    distinct = list(dict.fromkeys(tuple(sentence) for sentence in candidate))  # equal sentences add nothing to a union
    sentences_with: dict[Hashable, list[int]] = {}
    for number, candidate_sentence in enumerate(distinct):
        for token in set(candidate_sentence):
            sentences_with.setdefault(token, []).append(number)
    left_in_reference = Counter(token for sentence in reference for token in sentence)
    left_in_candidate = Counter(token for sentence in candidate for token in sentence)
    hits = 0
    for sentence in reference:
        concerned = {number for token in set(sentence) for number in sentences_with.get(token, ())}
        union: set[int] = set()
        for number in concerned:
            union.update(lcs_positions(sentence, distinct[number]))
        for position in union:
            token = sentence[position]
            if left_in_candidate[token] > 0 and left_in_reference[token] > 0:
                hits += 1
                left_in_candidate[token] -= 1
                left_in_reference[token] -= 1
    return hits

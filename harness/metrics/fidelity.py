"""How far two variants agree on the same text: names and meanings. The fidelity pass measures.

Used to ask whether merging kept what the adapter learned: merged is held against adapter.
"""

from __future__ import annotations

from harness.metrics.aggregates import ratio
from harness.metrics.registry import MetricSpec

SPECS: tuple[MetricSpec, ...] = (
    MetricSpec(
        name="fidelity.kl",
        unit="nats/token",
        higher_is_better=False,
        aggregation="corpus",
        signature="KL(against || variant)|mean over reference tokens|natural log|v1",
        label="KL divergence",
        scale="0 or more",
        sees="How much the next-token distributions differ along the reference.",
        blind_to="Texts that the variants would write themselves.",
        statistics=("kl", "tokens"),
        combine=ratio,
    ),
    MetricSpec(
        name="fidelity.kl_p99",
        unit="nats/token",
        higher_is_better=False,
        aggregation="quantile",
        signature="KL(against || variant)|p99 over reference tokens, dialogues resampled|v1",
        label="KL divergence p99",
        scale="0 or more",
        sees="The worst hundredth of the positions, which a mean hides.",
        blind_to="Which positions these are.",
    ),
    MetricSpec(
        name="fidelity.top1_agreement",
        unit="share of tokens",
        higher_is_better=True,
        aggregation="corpus",
        signature="argmax equal|share of reference tokens|v1",
        label="Top-1 agreement",
        scale="0–1",
        sees="How often both would choose the same next token.",
        blind_to="How sure they are of it.",
        statistics=("agree", "tokens"),
        combine=ratio,
    ),
    MetricSpec(
        name="fidelity.max_abs_dlogp",
        unit="nats",
        higher_is_better=False,
        aggregation="mean",
        signature="max |Δ log p(reference token)| of a dialogue|mean over dialogues|v1",
        label="Largest change of a token's log-probability",
        scale="0 or more",
        sees="The largest change of any reference token in a dialogue, on average over dialogues.",
        blind_to="How many tokens changed.",
    ),
    MetricSpec(
        name="fidelity.nll_difference",
        unit="nats/token",
        higher_is_better=None,
        aggregation="corpus",
        signature="(Σ nll variant − Σ nll against) / Σ tokens|v1",
        label="Difference of nll",
        scale="around 0",
        sees="Whether one finds the references less probable than the other.",
        blind_to="Differences that cancel out.",
        statistics=("nll_difference", "tokens"),
        combine=ratio,
    ),
    MetricSpec(
        name="fidelity.identical_replies",
        unit="share of replies",
        higher_is_better=True,
        aggregation="rate",
        signature="replies equal character by character|v1",
        label="Identical replies",
        scale="0–1",
        sees="Greedy replies that are the same in both.",
        blind_to="How much the others differ. Unequal kernels alone can part two equal models.",
    ),
    MetricSpec(
        name="fidelity.first_divergence",
        unit="tokens",
        higher_is_better=True,
        aggregation="mean",
        signature="tokens before the first difference|mean over replies that differ|v1",
        label="First divergence",
        scale="0 or more",
        sees="How long two replies run alike before they part.",
        blind_to="What comes after. Replies that never part are left out.",
    ),
)

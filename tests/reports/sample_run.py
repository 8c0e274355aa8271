"""A run folder made up for the tests of the page: plausible numbers, every outcome, every section, no model.

The texts are written from a small table; the numbers are drawn, and estimated with normal approximations, which is
good enough for a page to show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.files import digest_file, write_model, write_rows
from harness.gating.policy import SHIPPED
from harness.gating.verdict import EXIT_CODES, CheckResult, GateResult, RunFacts, VerdictName
from harness.store.folder import RunFolder
from harness.store.schema import RunManifest, SanityCheck
from harness.store.seals import numbers_digest
from tests.reports.sample_facts import KINDS, Poison, Sample
from tests.reports.sample_records import write_fidelity, write_latency, write_memory
from tests.reports.sample_summary import summary_of
from tests.reports.sample_texts import dialogues_of, replies_of, scores_of

__all__ = ["Sample", "build_sample_run"]


def build_sample_run(root: Path, sample: Sample | None = None) -> RunFolder:
    """Write a finished run folder under ``root`` and return it."""
    sample = sample or Sample()
    folder = RunFolder(root)
    rng = np.random.default_rng(sample.seed)
    poison = Poison(sample.hostile)
    dialogues = dialogues_of(sample, rng, poison)
    write_rows(folder.dialogues_path, dialogues)
    scores = scores_of(sample, rng)
    for variant in sample.variants:
        write_rows(folder.replies_path(variant), replies_of(sample, variant, dialogues, scores[variant], rng, poison))
    if "latency" in sample.passes:
        write_latency(folder, sample, dialogues, rng)
    if "memory" in sample.passes:
        write_memory(folder, sample)
    if "fidelity" in sample.passes and "merged" in sample.variants:
        write_fidelity(folder, dialogues, rng)
    folder.write_manifest(_manifest(sample, poison))
    write_model(folder.summary_path, summary_of(folder, sample, scores, dialogues, poison))
    if sample.gate:
        write_model(root / "gate.json", _gate(sample, poison, numbers_digest(folder)))
    return folder


def _manifest(sample: Sample, poison: Poison) -> RunManifest:
    curves = [
        {
            "step": s,
            "loss": 3.2 * np.exp(-s / 60) + 1.4 + 0.05 * np.sin(s),
            "learning_rate": 1e-4 * (1 - s / 200),
            "eval_loss": 3.1 * np.exp(-s / 60) + 1.55 if s % 20 == 0 else None,
        }
        for s in range(1, 200, 3)
    ]
    return RunManifest(
        state="complete",
        config={
            "prompt": "know-medical",
            "seed": 42,
            "generation": {"max_new_tokens": 256, "temperature": 0.0},
            "dialogues": {"source": poison("dialogues.jsonl"), "split": "test"},
        },
        config_digest="sha256:5f1d0a9b7c3e",
        digests={poison("dialogues"): "sha256:77aa01", "replies/adapter": "sha256:09fe22"},
        variants=tuple(
            {
                "name": v,
                "kind": KINDS.get(v, "adapter"),
                "model": poison("models/base"),
                "adapter": "models/adapter" if v == "adapter" else None,
                "quantization": "nf4" if v in {"base-nf4", "adapter"} else "none",
                "dtype": "bfloat16",
            }
            for v in sample.variants
        ),
        reference_variant=sample.variants[0],
        template="know-medical",
        template_digest="sha256:aa12",
        held_out={"loaded": 1310, "split": 134, "dropped by leakage": 4, "invalid": 0},
        provenance={
            "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23", "harness": "0.1.0"},
            "hardware": {"cpu": poison("a made-up CPU"), "gpu": "a made-up GPU, 24 GB", "threads": 2},
            "git": {"commit": "f00dfeed", "dirty": False},
            "seeds": {"run": 42},
            "roofline": {
                v: {
                    "floor_ms": 3.07 if v in {"base", "merged"} else 1.2,
                    "bandwidth_gb_s": 4400.0,
                    "kv_bytes_per_token": 524288,
                }
                for v in sample.variants
            },
        },
        sanity=(
            SanityCheck(name="adapter changes the logits", variant="adapter", ok=True, detail="largest change 4.2"),
            SanityCheck(name="no LoRA left in merged", variant="merged", ok=True, detail=poison("291 tensors")),
            SanityCheck(name="tokenizers agree", ok=True),
        ),
        warnings=(poison("Other processes were using the card: figures of time are less certain."),),
        events=({"kind": "batch halved", "pass": "generation", "from": 64, "to": 32},),
        training={
            "recipe": {"name": poison("quickstart"), "r": 16},
            "curves": curves,
        }
        if sample.training
        else {},
        started="2025-05-04T10:00:00+00:00",
        finished="2025-05-04T10:21:09+00:00",
    )


def _gate(sample: Sample, poison: Poison, numbers: str | None) -> GateResult:
    def check(name: str, metric: str, verdict: VerdictName, sentence: str, **facts: Any) -> CheckResult:
        known = {"candidate": "adapter", "n": sample.dialogues, "severity": "fail", **facts}
        return CheckResult(id=poison(name), metric=metric, verdict=verdict, sentence=poison(sentence), **known)

    verdict = sample.gate or "pass"
    rest: VerdictName = "pass" if verdict == "pass" else "inconclusive"
    checks = (
        check(
            "replies-closer",
            "quality.rouge_l",
            "pass",
            "The whole interval lies above −0.010.",
            rule="non_inferiority",
            requirement="difference ≥ −0.01 F1",
            against="base",
            scale="difference",
            unit="F1",
            higher_is_better=True,
            value=0.118,
            low=0.104,
            high=0.131,
            limit=-0.01,
        ),
        check(
            "nll-not-worse",
            "quality.nll",
            "pass",
            "No loss was proven.",
            rule="no_regression",
            requirement="difference ≤ 0.05 nats/token",
            against="base",
            scale="difference",
            unit="nats/token",
            higher_is_better=False,
            value=-0.61,
            low=-0.66,
            high=-0.57,
            limit=0.05,
        ),
        check(
            "emergencies",
            "safety.missed_emergency",
            rest,
            "The limit of 10 % lies within the interval.",
            rule="max",
            requirement="safety.missed_emergency ≤ 0.1",
            unit="share of replies",
            value=0.067,
            low=0.029,
            high=0.127,
            needed_n=410 if rest == "inconclusive" else None,
            limit=0.1,
        ),
        check(
            "doses",
            "safety.contradicted_dose",
            rest,
            "The limit of 15 % lies within the interval.",
            rule="max",
            requirement="safety.contradicted_dose ≤ 0.15",
            unit="share of replies",
            value=0.108,
            low=0.059,
            high=0.178,
            needed_n=630 if rest == "inconclusive" else None,
            limit=0.15,
        ),
        check(
            "merge-held",
            "fidelity.top1_agreement",
            "pass",
            "The whole interval lies above 0.99.",
            rule="min",
            requirement="fidelity.top1_agreement ≥ 0.99",
            candidate="merged",
            unit="share of tokens",
            value=0.9967,
            low=0.9959,
            high=0.9974,
            limit=0.99,
        ),
        check(
            "speed",
            "latency.tpot_ms.p50",
            "fail" if verdict == "fail" else "pass",
            "Judged on the ratio's interval.",
            rule="no_regression",
            requirement="ratio ≤ 2",
            against="base",
            scale="ratio",
            unit="ms",
            n=16,
            higher_is_better=False,
            value=1.62,
            low=1.59,
            high=1.65,
            limit=2.0,
            units="requests",
        ),
        check(
            "memory",
            "memory.peak_allocated_mib",
            "error" if verdict == "error" else "pass",
            "Measured in two processes.",
            rule="max",
            requirement="memory.peak_allocated_mib ≤ 7800 MiB",
            severity="warn",
            unit="MiB",
            value=7577.0,
            n=2,
        ),
    )
    facts = RunFacts(name="sample", digest="sha256:0a1b", numbers_digest=numbers)
    return GateResult(
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        sentence=f"The gate is {verdict}.",
        candidate="adapter",
        run=facts,
        thresholds=poison("adapter-release.yaml"),
        thresholds_digest=digest_file(SHIPPED / "adapter-release.yaml"),
        confidence=0.95,
        min_coverage=0.9,
        on_inconclusive="fail",
        checks=checks,
    )

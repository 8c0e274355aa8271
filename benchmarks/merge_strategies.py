"""What each merge strategy keeps of a QLoRA adapter: nll on held-out dialogues, and fidelity to the adapter itself.

Trains once (recipe ``small``: nf4, all linear layers, 60 steps of 8), merges three times, and measures base, base-nf4,
adapter and the three merged models in one run, with fidelity of each merged model against the adapter.

    python benchmarks/merge_strategies.py --base ../shared/models/medllama-7m \\
        --dialogues ../shared/data/medquad-treatments/medquad_treatments.jsonl \\
        --work runs/merge-strategies --out benchmarks/results/merge_strategies.json

Called again, it continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

STRATEGIES = ("dequantized", "original", "in-place-4bit")
FACTORS = (1.0, 0.3, 0.1, 0.03)  # of the trained ΔW
ROWS = {  # of the table: what a metric is called there
    "quality.nll": "nll, nats a token",
    "fidelity.nll_difference": "nll − the adapter's",
    "fidelity.kl": "KL from the adapter, mean",
    "fidelity.kl_p99": "KL from the adapter, p99",
    "fidelity.top1_agreement": "top-1 agreement",
    "fidelity.max_abs_dlogp": "largest \\|Δ log p\\| of a dialogue",
    "fidelity.identical_replies": "identical greedy replies",
    "fidelity.first_divergence": "tokens until replies part",
    "fidelity.sure_disagreement": "replies that part at a sure token",
}
WEIGHTS = {
    "mean_kept": "ΔW kept",
    "mean_relative_error": "error of ΔW, mean",
    "worst_relative_error": "error of ΔW, worst layer",
}


def main() -> None:
    """Read the options, run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--dialogues", required=True)
    parser.add_argument("--recipe", default="small")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], help="recipe key=value; may be repeated"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/merge-strategies"))
    parser.add_argument("--limit", type=int, help="measure only so many held-out dialogues")
    parser.add_argument("--passes", default="scoring,fidelity", help="add generation for the greedy replies' fidelity")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result = measure(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train, merge in every way, run the harness; return the table's rows with their provenance."""
    from finetune import pipeline
    from harness.jobs import run as jobs
    from harness.store.provenance import provenance

    overrides = [f"base={options.base}", f"dialogues.source={options.dialogues}", f"device={options.device}"]
    made = options.work / "made"
    manifest = pipeline.run(options.recipe, made, [*overrides, *options.overrides], notify=say)
    reports = {strategy: merged(options, made, strategy) for strategy in STRATEGIES}
    run = jobs.run(run_config(options, made, manifest), options.work / "run")
    summary = run.read_summary().model_dump(mode="json")["metrics"]
    return {
        "benchmark": "merge_strategies",
        "training": manifest.training,
        "recipe": manifest.recipe,
        "variants": {name: row(summary, name) for name in ("base", "base-nf4", "adapter")},
        "strategies": {
            strategy: {**row(summary, f"merged-{strategy}"), **weights(reports[strategy])} for strategy in STRATEGIES
        },
        "by_size": [row for factor in FACTORS for row in shrunk(options, made, factor)],
        "provenance": provenance(42),
    }


def shrunk(options: argparse.Namespace, made: Path, factor: float) -> list[dict[str, Any]]:
    """Merge the adapter made smaller by ``factor``: what a strategy keeps depends on how large ΔW is."""
    from finetune.merging import MergeOptions, merge_adapter

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter"
        shutil.copytree(made / "adapter", adapter)
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        config["lora_alpha"] *= factor
        (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        for strategy in STRATEGIES:
            choice: Any = strategy
            settings = MergeOptions(strategy=choice, device=options.device)
            report = merge_adapter(options.base, adapter, Path(scratch) / strategy, settings)
            rows.append({"strategy": strategy, "factor": factor, **weights(report)})
    return rows


def merged(options: argparse.Namespace, made: Path, strategy: str) -> Any:
    """Merge with one strategy, or take the merge that is there already."""
    from finetune.merging import MergeOptions, merge_adapter
    from harness.variants.digests import is_adapter
    from harness.variants.merge_report import read_merge_report

    folder = options.work / f"merged-{strategy}"
    report = read_merge_report(folder)
    if report is not None and is_adapter(made / "adapter", report.adapter_digest):
        return report
    choice: Any = strategy
    return merge_adapter(options.base, made / "adapter", folder, MergeOptions(strategy=choice, device=options.device))


def run_config(options: argparse.Namespace, made: Path, manifest: Any) -> dict[str, Any]:
    """Return the run: the manifest's variants, with three merged models instead of one."""
    variants = []
    for variant in manifest.variants:
        if variant.kind != "merged":
            fields = variant.model_dump(mode="json", exclude_none=True)
            fields["model"] = str(Path(options.base).resolve())
            if variant.adapter:
                fields["adapter"] = str((made / variant.adapter).resolve())
            variants.append(fields)
    for strategy in STRATEGIES:
        variants.append(
            {
                "name": f"merged-{strategy}",
                "kind": "merged",
                "model": str((options.work / f"merged-{strategy}").resolve()),
                "quantization": "nf4" if strategy == "in-place-4bit" else "none",
                "dtype": "bfloat16",
                "merge_strategy": strategy,
            }
        )
    return {
        "variants": variants,
        "dialogues": {"source": str(Path(options.dialogues).resolve()), "split": "test"},
        "passes": options.passes.split(","),
        "fidelity": [{"variant": f"merged-{strategy}", "against": "adapter"} for strategy in STRATEGIES],
        "device": options.device,
        **({"limit": options.limit} if options.limit else {}),
    }


def row(summary: dict[str, Any], variant: str) -> dict[str, Any]:
    """Return nll and fidelity of a variant, each with its interval, where they were measured."""
    found = {}
    for metric in ROWS:
        estimate = summary.get(metric, {}).get("variants", {}).get(variant)
        if estimate is not None:
            found[metric] = {key: estimate[key] for key in ("value", "low", "high", "n")}
    return found


def weights(report: Any) -> dict[str, Any]:
    """Return what the merge itself measured on the weights."""
    kept = ("delta_to_weight", "mean_kept", "mean_relative_error", "largest_quantization_error", "seconds")
    return {
        **{key: getattr(report, key) for key in kept},
        "worst_relative_error": report.worst_layers[0].relative_error,
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown: a column a variant, a row whatever was measured of any; then ΔW by its size."""
    columns = {**result["variants"], **result["strategies"]}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for metric, label in ROWS.items():
        if any(metric in found for found in columns.values()):
            lines.append(f"| {label} | {' | '.join(cell(found.get(metric)) for found in columns.values())} |")
    for key, label in WEIGHTS.items():
        shares = [f"{found[key]:.1%}" if key in found else "–" for found in columns.values()]
        lines.append(f"| {label} | {' | '.join(shares)} |")
    lines += ["", "| ΔW, of the weights | strategy | ΔW kept | error of ΔW |", "|---|---|---|---|"]
    for found in result["by_size"]:
        size, kept, error = found["delta_to_weight"], found["mean_kept"], found["mean_relative_error"]
        lines.append(f"| {size:.2%} | {found['strategy']} | {kept:.1%} | {error:.1%} |")
    return "\n".join(lines)


def cell(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    ends = ["–" if end is None else f"{end:.4f}" for end in (estimate["low"], estimate["high"])]
    interval = "" if ends == ["–", "–"] else f" [{', '.join(ends)}]"
    return f"{estimate['value']:.4f}{interval}"


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""The models, dialogues and settings that ``whole_command`` gives to both tools, made once and kept in a folder."""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TASKS = ("dialogue_likelihood", "dialogue_replies")  # lm-eval's names; the first scores, the second generates
ADAPTER_OVER_NF4: tuple[dict[str, Any], ...] = (
    {"name": "base"},
    {"name": "base-nf4", "of": "base", "quantization": "nf4"},
    {"name": "adapter", "quantization": "nf4"},
    {"name": "merged"},
)


@dataclass(frozen=True)
class WholeJob:
    """What both tools do. ``variants`` are those of a run's config, as plain values; ``model`` names where from."""

    folder: Path
    variants: tuple[dict[str, Any], ...]
    model: str
    dialogues: int
    max_new_tokens: int
    device: str

    @property
    def names(self) -> list[str]:
        return [variant["name"] for variant in self.variants]

    def summary(self) -> dict[str, Any]:
        """What goes into the result file."""
        facts = {key: value for key, value in asdict(self).items() if key not in ("folder", "variants")}
        return {**facts, "variants": self.names}

    def config(
        self, path: Path, passes: Sequence[str], variants: Sequence[dict[str, Any]] | None, limit: int | None
    ) -> Path:
        """Write a run's config. ``variants`` names some of the job's (``of``: under another name), with changes."""
        held = {variant["name"]: variant for variant in self.variants}
        chosen = [
            {**held[one.get("of", one["name"])], **{k: v for k, v in one.items() if k != "of"}}
            for one in variants or self.variants
        ]
        config = {
            "variants": chosen,
            "dialogues": {"source": str(self.folder / "dialogues.jsonl"), "split": "all"},
            "prompt": str(self.folder / "prompt.jinja"),
            "generation": {"max_new_tokens": self.max_new_tokens},
            "device": self.device,
            "passes": list(passes),
            "limit": limit,
        }
        path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        return path


def made_in(folder: Path, arguments: argparse.Namespace) -> WholeJob:
    """Return the job in a folder, making it first unless the same one is there already."""
    name = arguments.model.name if arguments.device == "cpu" else f"{arguments.shape}, random weights"
    asked = {
        "model": name,
        "dialogues": arguments.dialogues,
        "max_new_tokens": arguments.max_new_tokens,
        "device": arguments.device,
    }
    file = folder / "job.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if kept is None or {key: kept[key] for key in asked} != asked:
        folder.mkdir(parents=True, exist_ok=True)
        # A process of its own gives the GPU's memory back.
        maker = multiprocessing.get_context("spawn").Process(target=_make, args=(folder, arguments, asked))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("the models could not be made")
        kept = json.loads(file.read_text(encoding="utf-8"))
    return WholeJob(folder, tuple(kept.pop("variants")), **kept)


def _make(folder: Path, arguments: argparse.Namespace, asked: dict[str, Any]) -> None:
    """Write models, dialogues, the prompt's template and lm-eval's tasks; the job's file last."""
    from harness.variants.model import Variant

    variants: tuple[Variant, ...]
    if arguments.device == "cpu":
        from benchmarks.peers.lm_eval_cpu import small_job

        base = arguments.model.resolve()
        job = small_job(base, arguments.data, folder, arguments.dialogues, arguments.max_new_tokens)
        variants, rows = job.variants, job.dialogues
    else:
        from benchmarks.peers.random_models import SHAPES, make_variants, random_dialogues

        variants, _ = make_variants(folder, arguments.shape, arguments.device)
        rows = random_dialogues(arguments.dialogues, SHAPES[arguments.shape]["vocab_size"])
    # The reply follows the prompt's line: both tools then split the same strings at the same place.
    dialogues = [
        {"id": row.id, "instruction": text, "asked": f"{text}\n", "output": (row.reference or "").strip()}
        for row, text in ((row, row.prompt.strip()) for row in rows)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in dialogues)
    (folder / "dialogues.jsonl").write_text(lines, encoding="utf-8")
    (folder / "prompt.jinja").write_text("{{ condition }}\n", encoding="utf-8")
    _write_tasks(folder / "tasks", folder / "dialogues.jsonl", arguments.max_new_tokens)
    plain = [variant.model_dump(mode="json", exclude_none=True) for variant in variants]
    (folder / "job.json").write_text(json.dumps({**asked, "variants": plain}), encoding="utf-8")


def _write_tasks(folder: Path, dialogues: Path, max_new_tokens: int) -> None:
    folder.mkdir(exist_ok=True)
    both = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(dialogues)}},
        "test_split": "test",
        "doc_to_text": "{{asked}}",
        "doc_to_target": "{{output}}",
        "target_delimiter": "",
        "num_fewshot": 0,
    }
    decoding = {"until": [], "max_gen_toks": max_new_tokens, "do_sample": False}
    tasks: tuple[dict[str, Any], ...] = (
        {"task": TASKS[0], "output_type": "loglikelihood", "metric_list": [{"metric": "acc"}]},
        {
            "task": TASKS[1],
            "output_type": "generate_until",
            "generation_kwargs": decoding,
            "metric_list": [{"metric": "bleu"}, {"metric": "chrf"}],
        },
    )
    for task in tasks:
        (folder / f"{task['task']}.yaml").write_text(json.dumps({**both, **task}), encoding="utf-8")

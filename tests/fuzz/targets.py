"""What is fuzzed: for every kind of file, a valid one and what reads it."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.cli.app import main
from harness.gating.accepted import measured
from harness.store.baselines import HISTORY, Baselines
from tests.fuzz.damage import ANY_FILE, Damage, changed_header, changed_json, changed_yaml

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "run"
SHIPPED = ROOT / "harness"

# Reads the files in a folder. Raises HarnessError for what it cannot use, or returns a command line's exit code.
Read = Callable[[Path], int | None]


@dataclass(frozen=True)
class Target:
    """One kind of input. ``files`` are those that are damaged, one a case; ``make`` fills an empty folder."""

    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Read
    damages: tuple[Damage, ...]
    unread: tuple[str, ...] = ()  # of the files, those that this command does not read or computes again


def _wrote(**contents: str) -> Callable[[Path], None]:
    """Return a function that writes files, given by their names with ``__`` for the dot."""

    def make(folder: Path) -> None:
        for name, text in contents.items():
            (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")

    return make


ROWS = [
    {"id": f"d{number}", "instruction": "Answer as a doctor.", "input": f"I have had a headache for {number} days.",
     "output": f"Take 400 mg of ibuprofen and rest for {number} days.", "topic": "pain"}
    for number in range(6)
]  # fmt: skip
REPLIES = "".join(
    json.dumps({"id": row["id"], "prompt": row["input"], "reference": row["output"], "reply": "Rest. " * 5}) + "\n"
    for row in ROWS
)


# --- dialogues ------------------------------------------------------------------------------------------------------
def _read_dialogues(name: str) -> Read:
    def read(folder: Path) -> None:
        from harness.dialogues.load import load_dialogues
        from harness.dialogues.model import ColumnMap
        from harness.dialogues.prompts import load_template
        from harness.dialogues.split import select

        loaded = load_dialogues(str(folder / name), ColumnMap()).dialogues
        template = load_template("know-medical")
        for dialogue in select(loaded, "test", "salt"):
            template.render(dialogue)

    return read


def _make_csv(folder: Path) -> None:
    header = ",".join(ROWS[0])
    lines = [",".join(f'"{value}"' for value in row.values()) for row in ROWS]
    (folder / "rows.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")


def _make_packed(folder: Path) -> None:
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))


def _make_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")


def _make_turns(folder: Path) -> None:
    said = [{"role": "user", "content": "I cough."}, {"role": "assistant", "content": "Since when?"}]
    rows = [{"id": str(number), "messages": said * (number + 1)} for number in range(4)]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")


# --- templates and tokenizers ---------------------------------------------------------------------------------------
TEMPLATE = "{% for turn in turns %}{{ turn.role | upper }}: {{ turn.content * 2 }}\n{% endfor %}{{ condition ~ 'x' }}\n"


def _read_template(folder: Path) -> None:
    from harness.dialogues.model import Dialogue
    from harness.dialogues.prompts import load_template

    load_template(folder / "mine.jinja").render(Dialogue(id="d", prompt="I cough.", reference="Rest."))


@cache
def _tokenizer_files() -> Mapping[str, bytes]:
    from tests.finetune.conftest import make_tokenizer

    with TemporaryDirectory() as folder:
        make_tokenizer(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _make_tokenizer(folder: Path) -> None:
    for name, data in _tokenizer_files().items():
        (folder / name).write_bytes(data)


def _read_tokenizer(folder: Path) -> None:
    from harness.backends.local.loading import load_tokenizer
    from harness.dialogues.tokens import encode_prompt

    encode_prompt(load_tokenizer(str(folder)), "I cough.")


# --- what the user writes -------------------------------------------------------------------------------------------
def _read_config(folder: Path) -> None:
    from harness.jobs.run import read_config

    read_config(folder / "config.yaml")


def _read_thresholds(folder: Path) -> int:
    return main(["gate", str(_golden_copy(folder)), "--thresholds", str(folder / "thresholds.yaml")])


def _read_recipe(folder: Path) -> None:
    from finetune.recipe import load_recipe

    load_recipe(folder / "recipe.yaml")


# --- models ---------------------------------------------------------------------------------------------------------
def _make_variants(folder: Path) -> None:
    variants = [
        {"name": "base", "kind": "base", "model": "model", "dtype": "float32"},
        {"name": "adapter", "kind": "adapter", "model": "model", "adapter": "adapter", "dtype": "float32"},
    ]
    _make_models(folder)
    file = {"schema": 1, "variants": variants}
    (folder / "variants.json").write_text(json.dumps(file), encoding="utf-8")


def _make_models(folder: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 16}
    lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "m"}
    for name, settings, weights, content in (
        ("model", "config.json", "model.safetensors", config),
        ("adapter", "adapter_config.json", "adapter_model.safetensors", lora),
    ):
        (folder / name).mkdir()
        (folder / name / settings).write_text(json.dumps(content), encoding="utf-8")
        header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
        (folder / name / weights).write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))


def _read_models(folder: Path) -> None:
    from harness.variants.artifacts import check_adapter_folder, check_model_folder
    from harness.variants.folders import local_variants
    from harness.variants.resolve import resolve_variants
    from harness.variants.weights import first_not_finite

    resolved = local_variants(resolve_variants(str(folder / "variants.json")))
    for variant in resolved.variants:
        first_not_finite(check_model_folder(variant.model).files)
        if variant.adapter is not None:
            check_adapter_folder(variant.adapter)


# --- run folders and replies ----------------------------------------------------------------------------------------
def _golden_copy(folder: Path) -> Path:
    """Put a copy of the kept run into ``folder``; return its path."""
    shutil.copytree(GOLDEN, folder / "run")
    return folder / "run"


def _make_run(folder: Path) -> None:
    _golden_copy(folder)


@cache
def _accepted() -> str:
    """Return the history of a run that was accepted twice."""
    with TemporaryDirectory() as folder:
        store = Baselines(folder)
        for _ in range(2):
            store.accept(GOLDEN, "main", "a reason", measure=measured)
        return (store.root / HISTORY).read_text("utf-8")


def _make_history(folder: Path) -> None:
    (folder / HISTORY).write_text(_accepted(), "utf-8")


def _command(*arguments: str) -> Read:
    """Return a call of the command line; ``{}`` in an argument is the folder."""
    return lambda folder: main([argument.replace("{}", str(folder)) for argument in arguments])


RUN_FILES = tuple(str(path.relative_to(GOLDEN.parent)) for path in sorted(GOLDEN.rglob("*.json*")))
DERIVED_FILES = tuple(file for file in RUN_FILES if "/records/" not in file)  # records are not read again for a page
LINES = (*ANY_FILE, changed_json, changed_json, changed_json)
WRITTEN = (*ANY_FILE, changed_yaml, changed_yaml, changed_yaml)

NEED_NO_EXTRA: Mapping[str, Target] = {
    "thresholds": Target(
        _wrote(thresholds__yaml=(SHIPPED / "gating" / "thresholds" / "quickstart.yaml").read_text("utf-8")),
        ("thresholds.yaml",),
        _read_thresholds,
        WRITTEN,
    ),
    "replies": Target(
        _wrote(replies__jsonl=REPLIES),
        ("replies.jsonl",),
        _command("score", "--replies", "a={}/replies.jsonl", "--out", "{}/out", "--set", "metrics=[rouge]"),
        LINES,
    ),
    "report": Target(_make_run, DERIVED_FILES, _command("report", "{}/run"), LINES, ("run/latency.json",)),
    "gate": Target(_make_run, RUN_FILES, _command("gate", "{}/run", "--thresholds", "adapter-release"), LINES),
    "compare": Target(
        _make_run,
        DERIVED_FILES,
        _command("compare", "{}/run", str(GOLDEN), "--out", "{}/compared.html"),
        LINES,
        ("run/latency.json", "run/memory.json", "run/fidelity_weights.json"),
    ),
    "leaderboard": Target(
        _make_run,
        RUN_FILES,
        _command("leaderboard", "{}", "--out", "{}/board.html", "--out", "{}/board.csv"),
        LINES,
    ),
    "rescore": Target(
        _make_run,
        RUN_FILES,
        _command("score", "--run", "{}/run", "--set", "stats.resamples=100"),
        LINES,
        ("run/summary.json", "run/memory.json", *(file for file in RUN_FILES if file.startswith("run/replies/"))),
    ),
    "baseline": Target(
        _make_run,
        RUN_FILES,
        _command(
            "baseline", "accept", "{}/run", "--name", "main", "--reason", "r", "--force", "--baselines", "{}/baselines"
        ),
        LINES,
    ),
    "history": Target(
        _make_history,
        (HISTORY,),
        _command("baseline", "history", "main", "--baselines", "{}", "--out", "{}/history.html"),
        LINES,
    ),
}
NEED_THE_RUN_EXTRA: Mapping[str, Target] = {
    "JSON lines": Target(
        _wrote(rows__jsonl="".join(json.dumps(row) + "\n" for row in ROWS)),
        ("rows.jsonl",),
        _read_dialogues("rows.jsonl"),
        LINES,
    ),
    "turns": Target(_make_turns, ("rows.json",), _read_dialogues("rows.json"), LINES),
    "CSV": Target(_make_csv, ("rows.csv",), _read_dialogues("rows.csv"), ANY_FILE),
    "Parquet": Target(_make_parquet, ("rows.parquet",), _read_dialogues("rows.parquet"), ANY_FILE),
    "packed": Target(_make_packed, ("rows.jsonl.gz",), _read_dialogues("rows.jsonl.gz"), ANY_FILE),
    "template": Target(_wrote(mine__jinja=TEMPLATE), ("mine.jinja",), _read_template, ANY_FILE),
    "tokenizer": Target(_make_tokenizer, ("tokenizer.json", "tokenizer_config.json"), _read_tokenizer, LINES),
    "config": Target(
        _wrote(config__yaml=(SHIPPED / "configs" / "quickstart.yaml").read_text("utf-8")),
        ("config.yaml",),
        _read_config,
        WRITTEN,
    ),
    "recipe": Target(
        _wrote(recipe__yaml=(ROOT / "finetune" / "recipes" / "quickstart.yaml").read_text("utf-8")),
        ("recipe.yaml",),
        _read_recipe,
        WRITTEN,
    ),
    "variants": Target(
        _make_variants,
        ("variants.json", "model/config.json", "adapter/adapter_config.json"),
        _read_models,
        LINES,
    ),
    "weights": Target(
        _make_variants,
        ("model/model.safetensors", "adapter/adapter_model.safetensors"),
        _read_models,
        (*ANY_FILE, changed_header, changed_header, changed_header),
    ),
}
TARGETS: Mapping[str, Target] = {**NEED_NO_EXTRA, **(NEED_THE_RUN_EXTRA if find_spec("torch") else {})}

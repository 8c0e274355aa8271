"""A pass is one object, and runs wherever a backend can do what it needs: here, one that answers by rote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Capability
from harness.config import RunConfig
from harness.errors import HarnessError, InputError
from harness.gating.gate import gate
from harness.jobs import prepare
from harness.jobs.run import render
from harness.jobs.runner import run
from harness.passes.registry import all_passes, find
from harness.progress import SilentProgress
from harness.store import schema
from harness.store.baselines import Baselines
from harness.store.folder import RunFolder
from harness.store.redaction import redact
from harness.store.schema import LatencyRecord, ScoringRecord
from harness.variants.folders import weights_digests
from harness.yamlfile import validate
from reports.render import render as render_page
from reports.text import summary_markdown, summary_text
from tests.backends.scripted import ABLE, Scripted, ScriptedBackends, variant_folder
from tests.passes import toy
from tests.passes.toy import ToyRecord

LATENCY = {"prompts": 3, "reply_tokens": 4, "repeats": 2, "batch_sizes": [2], "batches": 1, "prompt_lengths": [16]}


class Opened:
    """Opens scripted backends and keeps them for a look."""

    def __init__(self, **able: frozenset[Capability]) -> None:
        self.able = able
        self.by_name: dict[str, Scripted] = {}

    def __call__(self, variants: Any, device: str, **options: Any) -> ScriptedBackends:
        made = ScriptedBackends(variants, self.able)
        self.by_name = made.by_name
        return made


def asked(folder: Path, *passes: str, names: tuple[str, ...] = ("base", "other")) -> RunConfig:
    """Return the config of a run over four dialogues and variants that nobody could load."""
    rows = [
        {"id": f"d{i}", "instruction": f"What helps against complaint {i}?", "output": "Rest and water. " * (i + 1)}
        for i in range(4)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = {name: folder / name for name in names}
    variants = [
        {"name": name, "kind": "base", "model": str(path) if path.exists() else variant_folder(path)}
        for name, path in models.items()
    ]
    value = {
        "variants": variants, "dialogues": {"source": str(folder / "dialogues.jsonl"), "split": "all"},
        "device": "cpu", "passes": list(passes), "latency": LATENCY, "metrics": ["rouge", "nll"],
        "generation": {"max_new_tokens": 8}, "stats": {"resamples": 200},
    }  # fmt: skip
    return validate(RunConfig, value, source="run.yaml")


def test_scoring_generation_and_latency_run_to_a_summary_over_a_backend_that_is_no_model(tmp_path: Path) -> None:
    opened = Opened()
    folder = run(asked(tmp_path / "in", "scoring", "generation", "latency"), tmp_path / "run", backends=opened)
    metrics = folder.read_summary().metrics
    assert metrics["quality.nll"].variants["base"].value == pytest.approx(1.0)
    assert metrics["latency.tpot_ms.p50"].variants["other"].value == pytest.approx(10.0)
    assert {reply.reply for reply in folder.replies("base")} == {"Drink water."}
    assert folder.read_manifest().state == "complete"
    assert folder.read_summary().coverage["base"].answered == 4
    # Each reference was scored once, on the way to its reply.
    assert sorted(opened.by_name["base"].asked) == sorted(
        f"{what} d{i}" for what in ("score", "generate") for i in range(4)
    )


def test_it_does_so_where_importing_torch_raises(tmp_path: Path) -> None:
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "bitsandbytes"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, NoTorch())
from pathlib import Path
from tests.passes.test_registry import Opened, asked, run
config = asked(Path({str(tmp_path / "in")!r}), "scoring", "generation", "latency")
folder = run(config, {str(tmp_path / "run")!r}, backends=Opened())
print(folder.read_manifest().state, sorted(folder.read_summary().coverage), "torch" in sys.modules)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout.split("\n")[0] == "complete ['base', 'other'] False", done.stderr


def test_a_backend_that_cannot_score_on_the_way_scores_apart(tmp_path: Path) -> None:
    opened = Opened(base=ABLE - {Capability.JOINT})
    folder = run(asked(tmp_path / "in", "scoring", "generation"), tmp_path / "run", backends=opened)
    assert [what.split()[0] for what in opened.by_name["base"].asked] == ["generate"] * 4 + ["score"] * 4
    assert len(folder.records(ScoringRecord, "scoring", "base")) == 4


class Heard(SilentProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_variant_whose_backend_lacks_something_is_not_measured_and_says_why(tmp_path: Path) -> None:
    opened, heard = Opened(other=ABLE - {Capability.SCORE, Capability.JOINT, Capability.TIME}), Heard()
    config = asked(tmp_path / "in", "scoring", "generation", "latency", "memory", "fidelity")
    folder = run(config, tmp_path / "run", backends=opened, progress=heard)
    why = "not measured: its backend cannot score references"
    assert f"scoring other: {why}." in heard.notes
    told = [event for event in folder.read_manifest().events if event["kind"] == "not-measured"]
    assert {"kind": "not-measured", "pass": "scoring", "variant": "other", "detail": why} in told
    missing = {(event["pass"], event["variant"]) for event in told}
    assert missing == {("scoring", "other"), ("latency", "other")} | {
        (name, variant) for name in ("fidelity", "memory") for variant in ("base", "other")
    }
    assert {record.skipped for record in folder.records(ScoringRecord, "scoring", "other")} == {why}
    assert folder.read_summary().coverage["other"].not_scored == {why: 4}
    assert folder.read_summary().coverage["base"].answered == 4
    assert folder.read_summary().coverage["other"].not_measured == {
        "scoring": why, "latency": "not measured: its backend cannot time requests",
        "memory": "not measured: its backend cannot measure memory",
        "fidelity": "not measured: its backend cannot compare distributions over tokens",
    }  # fmt: skip
    nll = folder.read_summary().metrics["quality.nll"].variants
    assert (nll["base"].n, nll["other"].n) == (4, 0)
    memory = json.loads(folder.memory_path.read_text())["variants"]
    assert memory["base"] == {"error": "not measured: its backend cannot measure memory"}
    assert {record.error for record in folder.records(LatencyRecord, "latency", "base")} == {None}


def test_fidelity_without_a_pair_says_so_in_the_terminal_on_the_page_and_in_coverage(tmp_path: Path) -> None:
    heard = Heard()
    able = ABLE | {Capability.DIVERGENCE}
    config = asked(tmp_path / "in", "generation", "fidelity")
    folder = run(config, tmp_path / "run", backends=Opened(base=able, other=able), progress=heard)
    why = "not measured: no variant of the run is a merged model or a quantised base"
    assert {f"fidelity {name}: {why}." for name in ("base", "other")} <= set(heard.notes)
    assert {name: one.not_measured for name, one in folder.read_summary().coverage.items()} == {
        name: {"fidelity": why} for name in ("base", "other")
    }
    page = render_page(folder)
    assert page.count(f"Not measured of base and other: fidelity: {why}.") == 1
    left_out = page[page.index("Not in this run:") :]
    assert f"fidelity ({why})" in left_out[: left_out.index("</p>")]
    assert f"base: fidelity: {why}" in summary_text(folder)
    assert f"base: fidelity: {why}" in summary_markdown(folder)


def test_what_was_not_measured_is_not_recorded_twice(tmp_path: Path) -> None:
    opened = Opened(other=ABLE - {Capability.SCORE, Capability.JOINT})
    config = asked(tmp_path / "in", "scoring")
    folder = run(config, tmp_path / "run", backends=opened)
    before = folder.records_path("scoring", "other").read_bytes()
    manifest = folder.read_manifest()
    folder.write_manifest(manifest.model_copy(update={"state": "failed"}))
    run(config, tmp_path / "run", backends=opened)
    assert folder.records_path("scoring", "other").read_bytes() == before


def test_every_pass_has_a_name_of_its_own_and_the_record_that_bears_it() -> None:
    assert [one.name for one in all_passes()] == ["scoring", "generation", "fidelity", "latency", "memory"]
    assert all(find(one.name) is one for one in all_passes())


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the toy: its file among the passes, its record in the schema."""
    monkeypatch.setitem(sys.modules, "harness.passes.toy", toy)
    monkeypatch.setattr(schema, "RECORDS", (*schema.RECORDS, ToyRecord))


@pytest.mark.usefixtures("registered")
def test_adding_a_pass_takes_its_file_and_its_record(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", "toy", "generation")
    assert config.passes == ("generation", "toy")
    folder = run(config, tmp_path / "run", backends=Opened())
    for variant in ("base", "other"):
        assert [record.letters for record in folder.records(ToyRecord, "toy", variant)] == [10] * 4
    manifest = folder.read_manifest()
    assert "records/toy/base.jsonl" in manifest.digests
    # An interrupted run keeps its records and makes only what is missing.
    path = folder.records_path("toy", "base")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    folder.write_manifest(manifest.model_copy(update={"state": "failed"}))
    opened = Opened()
    run(config, tmp_path / "run", backends=opened)
    assert opened.by_name["base"].asked == ["generate d2", "generate d3"]
    # A redacted folder keeps the numbers and not the words.
    redact(folder, folder.read_manifest())
    words = {record.word for record in folder.records(ToyRecord, "toy", "base")}
    assert len(words) == 1
    assert "Drink" not in words
    assert {record.letters for record in folder.records(ToyRecord, "toy", "base")} == {10}


def test_an_unknown_pass_is_refused_with_the_nearest() -> None:
    value = {"variants": "variants.json", "passes": ["scorin"]}
    with pytest.raises(
        InputError, match=r"^run.yaml: passes: unknown pass 'scorin'; .*memory\. Did you mean 'scoring'\?$"
    ):
        validate(RunConfig, value, source="run.yaml")


def test_a_folder_of_a_pass_that_is_not_known_is_not_kept_by_redaction(tmp_path: Path) -> None:
    folder = run(asked(tmp_path / "in", "scoring"), tmp_path / "run", backends=Opened())
    unknown = RunFolder(folder.root).records_path("later", "base")
    unknown.parent.mkdir()
    unknown.write_text("{}\n")
    redact(folder, folder.read_manifest())
    assert not unknown.exists()


class Ends:
    """Opens scripted backends whose second variant ends the run with ``error`` until that is None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        self.opened = Opened()

    def __call__(self, variants: Any, device: str, **options: Any) -> ScriptedBackends:
        made = self.opened(variants, device)
        if self.error is not None:

            def end(*args: Any) -> Any:
                raise self.error or AssertionError

            vars(made.by_name["other"])["generate"] = end
        return made


class Panic(BaseException):
    """As a library written in Rust raises: no Exception."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("CUDA error: illegal access\nmore"), "RuntimeError: CUDA error: illegal access."),
        (InputError("Variant 'other': no."), "Variant 'other': no."),
        (OSError(28, "Disk full", "x"), "x: Disk full. Free some space and run the same command again."),
        (Panic("index out of bounds"), "Panic: index out of bounds."),
    ],
)  # fmt: skip
def test_a_run_that_any_error_ends_is_failed_with_its_text_and_the_same_command_continues(
    tmp_path: Path, error: BaseException, text: str
) -> None:
    config, ends = asked(tmp_path / "in", "generation"), Ends(error)
    with pytest.raises(type(error)):
        run(config, tmp_path / "run", backends=ends)
    manifest = RunFolder(tmp_path / "run").read_manifest()
    assert (manifest.state, manifest.error) == ("failed", text)
    ends.error = None
    folder = run(config, tmp_path / "run", backends=ends)
    assert (folder.read_manifest().state, folder.read_manifest().error) == ("complete", None)
    assert ends.opened.by_name["base"].asked == []  # its replies were kept
    assert len(ends.opened.by_name["other"].asked) == 4


def test_an_interrupted_run_is_not_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(asked(tmp_path / "in", "generation"), tmp_path / "run", backends=Ends(KeyboardInterrupt()))
    assert RunFolder(tmp_path / "run").read_manifest().state == "running"


def test_an_error_in_the_numbers_is_recorded_as_one_in_the_measurements_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    config = asked(tmp_path / "in", "generation")
    with monkeypatch.context() as patch:
        patch.setattr("harness.results.summarize.summarize", broken)
        with pytest.raises(ZeroDivisionError):
            run(config, tmp_path / "run", backends=Opened())
    manifest = RunFolder(tmp_path / "run").read_manifest()
    assert (manifest.state, manifest.error) == ("failed", "ZeroDivisionError: division by zero.")
    assert run(config, tmp_path / "run", backends=Opened()).read_manifest().state == "complete"


def asked_again(folder: Path) -> RunConfig:
    """Return the config of the same run over edited data: the first reference is another."""
    config = asked(folder, "scoring", "generation")
    path = folder / "dialogues.jsonl"
    path.write_text(path.read_text().replace("Rest and water. ", "Sleep. ", 1))
    return config


def test_a_run_measured_again_on_other_data_leaves_no_old_verdict(tmp_path: Path) -> None:
    folder = run(asked(tmp_path / "in", "scoring", "generation"), tmp_path / "run", backends=Opened())
    render(folder, SilentProgress())
    thresholds = tmp_path / "thresholds.yaml"
    check = "{id: a, metric: quality.rouge_l, min: 0, judge: point, min_samples: 1}"
    thresholds.write_text(f"version: 1\ncandidate: other\nchecks: [{check}]\n")
    assert gate(folder.root, thresholds).verdict == "pass"
    verdicts = ("gate.json", "gate.junit.xml", "gate.md")
    judged = {name: (folder.root / name).read_bytes() for name in verdicts}
    run(asked(tmp_path / "in", "scoring", "generation"), folder.root, backends=Opened())  # the same numbers
    assert {name: (folder.root / name).read_bytes() for name in verdicts} == judged
    assert "Gate: pass" in render_page(folder)

    run(asked_again(tmp_path / "in"), folder.root, backends=Opened())
    assert not {"report.html", "summary.md"} & {path.name for path in folder.root.iterdir()}
    assert all(b"have changed since the gate judged" in (folder.root / name).read_bytes() for name in verdicts)
    assert "Gate: pass" not in render_page(folder)
    assert "numbers have changed since the gate judged them" in summary_markdown(folder)
    with pytest.raises(HarnessError, match="outdated"):
        Baselines(tmp_path / "baselines").accept(folder.root, "main", "good", force=True)


def test_a_price_given_later_is_on_the_page_and_measures_nothing_again(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", "generation", "latency")
    folder = run(config, tmp_path / "run", backends=Opened())
    assert "replies cost" not in render_page(folder)
    again = Opened()
    run(config.model_copy(update={"price_per_gpu_hour": 2.5, "currency": "EUR"}), folder.root, backends=again)
    assert again.by_name == {}
    assert "2.50 EUR for an hour" in render_page(folder)


def test_a_run_says_how_many_tokens_each_variant_takes(tmp_path: Path) -> None:
    opened = Opened()
    folder = run(asked(tmp_path / "in", "generation"), tmp_path / "run", backends=opened)
    taken = folder.read_manifest().provenance["context_length/other"]
    assert taken == opened.by_name["other"].context_length


def test_edited_records_are_not_taken_over_by_the_next_run(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", "scoring", "generation")
    folder = run(config, tmp_path / "run", backends=Opened())
    path = folder.records_path("generation", "other")
    path.write_text(path.read_text().replace("Drink water.", "Rest and water."))
    summary = folder.summary_path.read_bytes()
    for again in (config, asked_again(tmp_path / "in")):  # computing again, and measuring what changed
        with pytest.raises(InputError, match=r"records/generation/other\.jsonl was changed after the run ended"):
            run(again, folder.root, backends=Opened())
    assert folder.summary_path.read_bytes() == summary


def test_weights_replaced_between_preparation_and_measurement_are_not_measured(tmp_path: Path) -> None:
    opened = Opened()
    config = asked(tmp_path / "in", "scoring")

    def replacing(variants: Any, device: str, **options: Any) -> ScriptedBackends:
        (tmp_path / "in/other/model.safetensors").touch()
        return opened(variants, device, **options)

    with pytest.raises(InputError, match=r"other/model\.safetensors was changed since this run began"):
        run(config, tmp_path / "run", backends=replacing)
    assert not list((tmp_path / "run/records").rglob("*.jsonl"))


def test_a_run_with_digests_of_version_0_1_is_known_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, opened = asked(tmp_path / "in", "scoring"), Opened()
    earlier = {"weights/base": "0" * 64}
    monkeypatch.setattr(prepare, "weights_digests", lambda variants, _: weights_digests(variants, earlier))
    old = run(config, tmp_path / "run", backends=opened).read_manifest().digests
    assert len(old["weights/base"]) == 64
    monkeypatch.undo()
    opened.by_name.clear()
    assert run(config, tmp_path / "run", backends=opened).read_manifest().digests == old
    assert not opened.by_name, "measured again"

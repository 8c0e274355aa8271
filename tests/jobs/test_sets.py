"""A run over several held-out sets: a run folder for each, one set of backends for all."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.config import RunConfig
from harness.dialogues.leakage import FILE_NAME, fingerprint
from harness.dialogues.model import Dialogue
from harness.errors import InputError
from harness.jobs import ranks
from harness.jobs.runner import run
from harness.jobs.score import score
from harness.passes.keys import config_digest
from harness.sets import about, read_recorded, recorded_config, set_configs
from harness.store.baselines import Baselines
from harness.store.folder import RunFolder
from harness.store.schema import ScoringRecord
from harness.store.seals import check
from harness.yamlfile import validate
from tests.backends.scripted import ScriptedBackends
from tests.jobs.test_ranks import FIRST, SECOND
from tests.passes.test_registry import Ends, Heard, Opened, asked


def over_sets(folder: Path, *passes: str, **changes: Any) -> RunConfig:
    """Return the config of a run over two sets: the four dialogues of ``asked``, and three others that are scored."""
    one = asked(folder, *(passes or ("scoring", "generation", "latency")))
    rows = [{"id": f"g{i}", "instruction": f"Name river {i}.", "output": "It is long. " * (i + 1)} for i in range(3)]
    (folder / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    general = {"source": str(folder / "general.jsonl"), "split": "all", "passes": ["scoring"], **changes}
    sets = {"clinic": {"source": str(folder / "dialogues.jsonl"), "split": "all"}, "general": general}
    value = one.model_dump(mode="json", by_alias=True, exclude={"dialogues", "sets"})
    return validate(RunConfig, {**value, "sets": sets}, source="run.yaml")


def files_of(root: Path) -> dict[str, bytes]:
    """Return what a run measured and computed, by path."""
    names = ("dialogues.jsonl", "summary.json", "replies/*", "records/*/*")
    return {path.relative_to(root).as_posix(): path.read_bytes() for name in names for path in root.glob(name)}


def test_each_set_is_what_a_run_over_it_alone_measures(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in")
    folder = run(config, tmp_path / "run", backends=Opened())
    alone = {name: run(one, tmp_path / name, backends=Opened()).root for name, one in set_configs(config).items()}
    further = files_of(folder.root / "sets/general")
    assert further == files_of(alone["general"])
    first = files_of(folder.root)
    summary = json.loads(first.pop("summary.json"))
    expected = files_of(alone["clinic"])
    expected_summary = json.loads(expected.pop("summary.json"))
    assert list(summary.pop("sets")) == ["clinic", "general"]
    assert (first, summary) == (expected, expected_summary)


def test_the_summary_has_the_numbers_of_every_set(tmp_path: Path) -> None:
    folder = run(over_sets(tmp_path / "in"), tmp_path / "run", backends=Opened())
    summary = folder.read_summary()
    assert summary.sets["clinic"].metrics == summary.metrics
    general = summary.sets["general"]
    assert general.coverage["base"].dialogues == 3
    assert general.metrics == folder.set_folder("general").read_summary().metrics
    assert not any(name.startswith("latency.") for name in general.metrics)
    assert any(name.startswith("latency.") for name in summary.metrics)


def test_the_backends_are_opened_once_for_all_sets(tmp_path: Path) -> None:
    opened: list[Opened] = []

    def opening(variants: Any, device: str, **options: Any) -> ScriptedBackends:
        opened.append(Opened())
        return opened[-1](variants, device, **options)

    run(over_sets(tmp_path / "in"), tmp_path / "run", backends=opening)
    assert len(opened) == 1
    counted = Counter(what.split()[1][0] for what in opened[0].by_name["base"].asked)
    assert counted == {"d": 8, "g": 3}  # four scored and replied to, three scored


def test_a_variant_is_measured_on_every_set_before_the_next_one(tmp_path: Path) -> None:
    order: list[str] = []

    def opening(variants: Any, device: str, **options: Any) -> ScriptedBackends:
        made = Opened()(variants, device)
        for name, backend in made.by_name.items():
            backend.asked = Tagged(name, order)
        return made

    run(over_sets(tmp_path / "in", "scoring"), tmp_path / "run", backends=opening)
    assert order == ["base d"] * 4 + ["base g"] * 3 + ["other d"] * 4 + ["other g"] * 3


class Tagged(list[str]):
    """What a backend was asked, written to a list of all."""

    def __init__(self, name: str, order: list[str]) -> None:
        super().__init__()
        self._name = name
        self._order = order

    def append(self, what: str) -> None:
        self._order.append(f"{self._name} {what.split()[1][0]}")


def test_an_error_in_the_last_sets_data_names_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in", source=str(tmp_path / "missing.jsonl"))
    with pytest.raises(InputError, match=r"^Set 'general': .*missing\.jsonl"):
        run(config, tmp_path / "run", backends=Opened())
    assert not (tmp_path / "run").exists()


def test_a_run_that_ended_in_its_second_set_is_continued_there(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in", "generation", passes=["generation"])
    ends = Ends(None)

    def ending(variants: Any, device: str, **options: Any) -> ScriptedBackends:
        made = ends.opened(variants, device)
        backend = made.by_name["other"]
        whole = backend.generate

        def generate(requests: Any, settings: Any) -> Any:
            if any(request.id.startswith("g") for request in requests):
                raise InputError("no more")
            return whole(requests, settings)

        vars(backend)["generate"] = generate
        return made

    with pytest.raises(InputError, match=r"^Set 'general': no more$"):
        run(config, tmp_path / "run", backends=ending)
    failed = RunFolder(tmp_path / "run").read_manifest()
    assert (failed.state, failed.error) == ("failed", "Set 'general': no more")
    opened = Opened()
    folder = run(config, tmp_path / "run", backends=opened)
    assert opened.by_name["base"].asked == []
    assert opened.by_name["other"].asked == ["generate g0", "generate g1", "generate g2"]
    assert {folder.read_manifest().state, folder.set_folder("general").read_manifest().state} == {"complete"}


def test_a_finished_run_is_not_measured_again_but_computed_with_other_metrics_of_a_set(tmp_path: Path) -> None:
    folder = run(over_sets(tmp_path / "in"), tmp_path / "run", backends=Opened())
    before = files_of(folder.root)
    again = Opened()
    run(over_sets(tmp_path / "in", metrics=["bits_per_byte"]), folder.root, backends=again)
    assert again.by_name == {}
    assert set(folder.read_summary().sets["general"].metrics) == {"quality.bits_per_byte"}
    assert {name for name, data in files_of(folder.root).items() if before[name] != data} == {"summary.json"}
    assert check(folder, folder.read_manifest()) == []


def test_another_config_of_a_further_set_is_another_run(tmp_path: Path) -> None:
    folder = run(over_sets(tmp_path / "in"), tmp_path / "run", backends=Opened())
    said = r"belongs to a run with another config \(sets\.general\.limit: not set → 2\)"
    with pytest.raises(InputError, match=said):
        run(over_sets(tmp_path / "in", limit=2), folder.root, backends=Opened())


@pytest.mark.parametrize("changes", [{}, {"limit": 2}, {"passes": None, "prompt": "chat", "metrics": ["nll"]}])
def test_the_config_of_a_run_over_sets_can_be_read_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = over_sets(tmp_path / "in", "scoring", "generation", "latency", **changes)
    again = read_recorded(json.loads(json.dumps(recorded_config(config))))
    assert config_digest(again) == config_digest(config)
    limited = config.model_copy(update={"limit": 3})
    assert config_digest(read_recorded(recorded_config(limited))) == config_digest(limited) != config_digest(config)


def test_data_that_changed_in_a_further_set_are_measured_again_there_alone(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in")
    folder = run(config, tmp_path / "run", backends=Opened())
    path = tmp_path / "in/general.jsonl"
    path.write_text(path.read_text().replace("It is long. ", "It is short. ", 1))
    again = Opened()
    run(config, folder.root, backends=again)
    assert again.by_name["base"].asked == ["score g0"]
    assert check(folder, folder.read_manifest()) == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda root: (root / "summary.json").write_text("{}"), r"^sets/general/summary\.json was changed"),
        (lambda root: (root / "replies/base.jsonl").write_text(""), r"^sets/general/replies/base\.jsonl was changed"),
        (shutil.rmtree, r"^sets/general/summary\.json is missing"),
        (lambda root: shutil.copytree(root, root.parent / "more"), r"^sets/more/summary\.json was added"),
    ],
)
def test_an_edited_missing_or_added_set_is_told(tmp_path: Path, edit: Any, said: str) -> None:
    folder = run(over_sets(tmp_path / "in"), tmp_path / "run", backends=Opened())
    assert check(folder, folder.read_manifest()) == []
    edit(folder.root / "sets/general")
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(check(folder, folder.read_manifest())[0])


def test_edited_records_of_a_further_set_are_not_taken_over(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in")
    folder = run(config, tmp_path / "run", backends=Opened())
    path = folder.set_folder("general").records_path("scoring", "other")
    path.write_text(path.read_text().replace('"nll": 3', '"nll": 2'))
    with pytest.raises(InputError, match=r"sets/general/records/scoring/other\.jsonl was changed"):
        run(config, folder.root, backends=Opened())


def test_rescoring_the_run_scores_every_set(tmp_path: Path) -> None:
    folder = run(over_sets(tmp_path / "in"), tmp_path / "run", backends=Opened())
    score([], None, run=folder.root, overrides=["metrics=[bits_per_byte]", "stats.resamples=300"])
    for one in (folder, folder.set_folder("general")):
        assert [name for name in one.read_summary().metrics if name.startswith("quality.")] == ["quality.bits_per_byte"]
    assert check(folder, folder.read_manifest()) == []


@pytest.mark.parametrize("redact_text", [False, True])
def test_a_baseline_has_the_sets_and_without_text_if_asked(tmp_path: Path, redact_text: bool) -> None:
    config = over_sets(tmp_path / "in", "generation", passes=["generation"])
    folder = run(config, tmp_path / "run", backends=Opened())
    store = Baselines(tmp_path / "baselines")
    store.accept(folder.root, "main", "first", redact_text=redact_text)
    kept = store.accepted("main")
    assert check(kept, kept.read_manifest()) == []
    one = kept.set_folder("general")
    assert check(one, one.read_manifest()) == []
    text = b"Drink water." in b"".join(path.read_bytes() for path in one.root.rglob("*.jsonl"))
    assert text is not redact_text


def test_processes_share_every_set_and_leave_what_one_leaves(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in")
    one = run(config, tmp_path / "one", backends=Opened())
    opened = {share: Opened() for share in (FIRST, SECOND)}
    assert ranks.run(config, tmp_path / "two", FIRST, backends=opened[FIRST]) is None
    two = ranks.run(config, tmp_path / "two", SECOND, backends=opened[SECOND])
    assert two is not None
    by_rank = [[what for what in opened[share].by_name["base"].asked if " g" in what] for share in (FIRST, SECOND)]
    assert by_rank == [["score g0", "score g2"], ["score g1"]]
    ours, theirs = one.set_folder("general"), two.set_folder("general")
    assert ours.read_summary() == theirs.read_summary()
    found = [each.records(ScoringRecord, "scoring", "base") for each in (ours, theirs)]
    assert found[0] == sorted(found[1], key=lambda row: row.id)
    assert not list(two.root.rglob("ranks"))
    assert check(two, two.read_manifest()) == []


def test_the_limit_of_the_run_bounds_that_of_each_set(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in", limit=2)
    limits = [one.limit for one in set_configs(config).values()]
    assert limits == [None, 2]
    assert [one.limit for one in set_configs(config.model_copy(update={"limit": 1})).values()] == [1, 1]


def test_further_sets_leave_out_latency_and_memory_unless_they_ask_for_them(tmp_path: Path) -> None:
    passes = ("scoring", "latency", "memory")
    of_run = validate(RunConfig, over_sets(tmp_path / "in", *passes, passes=None).model_dump(by_alias=True), source="x")
    assert [one.passes for one in set_configs(of_run).values()] == [passes, ("scoring",)]
    asking = over_sets(tmp_path / "in", *passes, passes=["latency"])
    assert set_configs(asking)["general"].passes == ("latency",)


def test_a_set_that_no_pass_is_left_for_is_refused(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in", "latency", passes=None)
    with pytest.raises(InputError, match=r"^Set 'general': no pass.* latency.* Name one in sets\.general\.passes\.$"):
        run(config, tmp_path / "run", backends=Opened())
    empty = over_sets(tmp_path / "in", "scoring", passes=[])
    with pytest.raises(InputError, match=r"^Set 'general': no pass is left to measure it\. Name one in"):
        run(empty, tmp_path / "run", backends=Opened())


def test_another_order_of_sets_or_a_set_more_is_named_as_that(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in", "scoring")
    run(config, tmp_path / "run", backends=Opened())
    assert config.sets is not None
    turned = config.model_copy(update={"sets": dict(reversed(config.sets.items()))})
    fewer = config.model_copy(update={"sets": {"clinic": config.sets["clinic"]}})
    for other, after in ((turned, "general, clinic"), (fewer, "clinic")):
        with pytest.raises(InputError, match=rf"another config \(sets: clinic, general → {after}\)"):
            run(other, tmp_path / "run", backends=Opened())


def test_a_single_set_is_the_run_itself(tmp_path: Path) -> None:
    config = over_sets(tmp_path / "in", "scoring")
    assert config.sets is not None
    only = config.model_copy(update={"sets": {"clinic": config.sets["clinic"]}})
    folder = run(only, tmp_path / "run", backends=Opened())
    assert list(folder.read_summary().sets) == ["clinic"]
    assert not (folder.root / "sets").exists()
    assert check(folder, folder.read_manifest()) == []


def test_a_warning_says_which_set_it_is_about(tmp_path: Path) -> None:
    heard = Heard()
    folder = run(over_sets(tmp_path / "in"), tmp_path / "run", backends=Opened(), progress=heard)
    said = "The variants' training data is unknown, so leakage was not checked."
    assert {f"Set 'clinic': Warning: {said}", f"Set 'general': Warning: {said}"} <= set(heard.notes)
    assert folder.read_manifest().warnings == (f"Set 'clinic': {said}", f"Set 'general': {said}")
    assert folder.set_folder("general").read_manifest().warnings == (said,)


def test_leakage_is_checked_for_every_set_and_said_with_its_name(tmp_path: Path) -> None:
    pytest.importorskip("datasketch")
    leaked = Dialogue(id="x", prompt="Name river 1.", reference="It is long. It is long.")
    fingerprint([leaked]).save(tmp_path / FILE_NAME)
    trained = [str(tmp_path / FILE_NAME)]
    folder = run(over_sets(tmp_path / "in", fingerprints=trained), tmp_path / "run", backends=Opened())
    assert [row.id for row in folder.set_folder("general").dialogues()] == ["g0", "g2"]
    said = "Set 'general': Of 3 held-out dialogues, 1 are in the training data"
    assert any(warning.startswith(said) for warning in folder.read_manifest().warnings)
    with pytest.raises(InputError, match=r"^Set 'general': .*Set sets\.general\.leakage to drop"):
        run(over_sets(tmp_path / "in", fingerprints=trained, leakage="error"), tmp_path / "no", backends=Opened())
    assert not (tmp_path / "no").exists()


def test_advice_names_the_set_s_own_keys() -> None:
    assert about("a-1", "x/dialogues.jsonl: no. Set dialogues.leakage to drop.") == (
        "Set 'a-1': x/dialogues.jsonl: no. Set sets.a-1.leakage to drop."
    )
    assert about("", "Set dialogues.leakage.") == "Set dialogues.leakage."


def test_a_run_without_sets_has_no_word_of_them(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", "scoring")
    folder = run(config, tmp_path / "run", backends=Opened())
    assert "sets" not in json.loads(folder.summary_path.read_bytes())
    assert "sets" not in json.loads(folder.manifest_path.read_bytes())["config"]
    assert config_digest(config) == folder.read_manifest().config_digest
    assert not (folder.root / "sets").exists()


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = run(over_sets(tmp_path / "in"), tmp_path / "run", backends=Opened())
    manifest = folder.read_manifest()
    sets = {"clinic": {}, "../../in": {}}
    folder.write_manifest(manifest.model_copy(update={"config": {**manifest.config, "sets": sets}}))
    with pytest.raises(InputError, match=r"the set name '\.\./\.\./in' is not a folder's name"):
        check(folder, folder.read_manifest())

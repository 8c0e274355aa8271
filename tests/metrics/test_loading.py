"""Which metrics a config gets, and how a user adds one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError, InputError
from harness.metrics import workers
from harness.metrics.loading import all_specs, load_metrics
from harness.metrics.registry import Item, MetricOptions

OWN = '''
from harness.metrics import Item, per_reply

@per_reply(name="quality.asks_back", unit="share of replies", higher_is_better=True, aggregation="rate")
def asks_back(item: Item) -> float | None:
    """Replies that ask the patient something."""
    return float("?" in item.reply)
'''


def item(reply: str | None = "How long?", id: str = "1") -> Item:
    return Item(id, "I cough.", "For how long?", reply)


def test_a_group_a_family_a_full_name_and_a_short_name_are_understood() -> None:
    assert set(load_metrics(["rouge"]).specs) == {f"quality.rouge_{kind}" for kind in ("1", "2", "l", "lsum")}
    assert set(load_metrics(["quality.bleu"]).specs) == {"quality.bleu"}
    assert set(load_metrics(["nll", "rouge_l"]).specs) == {"quality.nll", "quality.rouge_l"}
    assert {spec.family for spec in load_metrics(["quality"]).specs.values()} == {"quality"}


def test_only_what_was_asked_for_is_in_the_scores() -> None:
    scores = load_metrics(["rouge_l"]).score([item()])[0]
    assert set(scores.values) == {"quality.rouge_l"}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'rouge_l'"):
        load_metrics(["rouge_ll"])


def test_what_passes_measure_may_be_named() -> None:
    assert not load_metrics(["latency", "memory.weights_mib"]).specs


def test_every_metric_says_what_it_is() -> None:
    for name, spec in all_specs().items():
        assert name == spec.name
        assert spec.family in {"quality", "safety", "fidelity", "latency", "memory"}
        assert spec.label, name
        assert spec.signature, name
        assert spec.sees, name
        assert spec.blind_to, name
        assert (spec.combine is not None) == (spec.aggregation == "corpus"), name
        assert bool(spec.statistics) == (spec.aggregation == "corpus"), name


def test_the_design_s_names_are_there() -> None:
    names = set(all_specs())
    assert {"latency.ttft_ms.p50", "latency.itl_ms.p99", "latency.tokens_per_s", "latency.mbu"} <= names
    assert {"memory.peak_allocated_mib", "memory.peak_rss_mib", "fidelity.kl", "fidelity.top1_agreement"} <= names


def test_a_user_s_function_in_a_file_becomes_a_metric(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    metrics = load_metrics(["bleu"], MetricOptions(modules=(str(tmp_path / "own.py"),)))
    assert set(metrics.specs) == {"quality.bleu", "quality.asks_back"}
    assert [s.values["quality.asks_back"] for s in metrics.score([item(), item("Rest."), item(None)])] == [1, 0, None]
    assert metrics.specs["quality.asks_back"].sees == "Replies that ask the patient something."


def test_a_user_s_class_becomes_a_metric(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from harness.metrics import MetricSpec, Scores\n"
        "class Letters:\n"
        "    specs = (MetricSpec('quality.letters', '', None, 'mean', 'v1', 'Letters'),)\n"
        "    def score(self, items):\n"
        "        return [Scores({'quality.letters': len(item.reply)}) for item in items]\n"
    )
    metrics = load_metrics([], MetricOptions(modules=(str(tmp_path / "own.py"),)))
    assert metrics.score([item("abc")])[0].values == {"quality.letters": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "contains no metric"),
        ("import nowhere_to_be_found", "cannot be imported"),
        (OWN.replace("quality.asks_back", "quality.bleu"), "there is already a metric"),
        (OWN.replace("quality.asks_back", "Asks Back"), "is not a valid metric name"),
        (OWN.replace("quality.asks_back", "latency.asks_back"), "is not a valid metric name"),
    ],
)
def test_an_unusable_module_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(InputError, match=message):
        load_metrics(None, MetricOptions(modules=(str(tmp_path / "own.py"),)))


def test_a_missing_module_is_an_input_error() -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_metrics(None, MetricOptions(modules=("nowhere.py",)))


def test_a_user_s_function_that_fails_names_metric_and_dialogue(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace('float("?" in item.reply)', "1 / 0"))
    metrics = load_metrics([], MetricOptions(modules=(str(tmp_path / "own.py"),)))
    with pytest.raises(HarnessError, match=r"quality\.asks_back failed on dialogue '7': ZeroDivisionError"):
        metrics.score([item(id="7")])


def test_a_value_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace('float("?" in item.reply)', 'float("nan")'))
    metrics = load_metrics([], MetricOptions(modules=(str(tmp_path / "own.py"),)))
    with pytest.raises(HarnessError, match="returned nan for dialogue '1'"):
        metrics.score([item()])


def test_workers_give_the_same_scores_in_the_same_order(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN + "print('imported')\n")
    metrics = load_metrics(["rouge", "form"], MetricOptions(modules=(str(tmp_path / "own.py"),)))
    items = [item(f"Reply {number}?" * (number % 5), id=str(number)) for number in range(2100)]
    done: list[int] = []
    assert list(workers.score(metrics, items, workers=2, advance=done.append)) == metrics.score(items)
    assert sum(done) == 2100


def test_a_failure_in_a_worker_is_reported(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace('float("?" in item.reply)', "1 / 0 if item.id == '1999' else 0"))
    metrics = load_metrics([], MetricOptions(modules=(str(tmp_path / "own.py"),)))
    with pytest.raises(HarnessError, match="dialogue '1999'"):
        list(workers.score(metrics, [item(id=str(number)) for number in range(2100)], workers=2))

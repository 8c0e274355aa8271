"""The thresholds file is read strictly: what is not understood is refused with its line and the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.gating.policy import LoadedPolicy, load_policy


def load(tmp_path: Path, text: str) -> LoadedPolicy:
    path = tmp_path / "thresholds.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as raised:
        load(tmp_path, text)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    loaded = load(tmp_path, "version: 1\ncandidate: adapter\nchecks: [{id: a, metric: quality.nll, max: 3}]\n")
    defaults = loaded.policy.defaults
    said = (defaults.confidence, defaults.min_samples, defaults.min_coverage, defaults.on_inconclusive)
    assert said == (0.95, 100, 0.99, "fail")
    check = loaded.checks[0]
    assert (check.rule, check.margin, check.severity, check.judge, check.compares) == (
        "max",
        3.0,
        "fail",
        "bound",
        False,
    )


def test_every_rule_is_understood(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """
version: 1
checks:
  - {id: a, metric: m, min: 1}
  - {id: b, metric: m, max: 1, against: {variant: base}}
  - {id: c, metric: m, non_inferiority: {margin: 0.1}, against: {variant: base}}
  - {id: d, metric: m, non_inferiority: {margin_relative: 0.1}, against: {baseline: main}}
  - {id: e, metric: m, no_regression: {max_drop: 0}, against: {baseline: main, variant: base}}
  - {id: f, metric: m, no_regression: {max_relative_increase: 0.1}, against: {variant: base}}
  - {id: g, metric: m, equivalence: {margin: 0.1}, against: {variant: base}}
""",
    )
    assert [check.rule for check in loaded.checks] == [
        "min",
        "max",
        "non_inferiority",
        "non_inferiority",
        "no_regression",
        "no_regression",
        "equivalence",
    ]
    assert [check.is_relative for check in loaded.checks] == [False, False, False, True, False, True, False]
    assert [check.compares for check in loaded.checks] == [False, True, True, True, True, True, True]


def test_an_unknown_key_is_refused_with_line_and_nearest_key(tmp_path: Path) -> None:
    message = refusal(tmp_path, "version: 1\nchecks:\n  - id: a\n    metric: m\n    mni: 3\n")
    assert "line 5" in message
    assert "Did you mean 'min'?" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("checks: []\n", "'version' is missing"),
        ("version: 2\n", "line 1: version"),
        ("version: 1\nchecks:\n  - {id: a, metric: m}\n", "line 3: checks.0: give exactly one of min, max"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: 1, max: 2}\n", "give exactly one of"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: .nan}\n", "line 3: checks.0.min"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: true}\n", "line 3: checks.0.min"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: '3'}\n", "line 3: checks.0.min"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, non_inferiority: {margin: -1}}\n", "greater than or equal to 0"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, non_inferiority: {}}\n", "give exactly one of margin"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, equivalence: {margin: 0}}\n", "greater than 0"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: 1, against: {}}\n", "give 'variant', 'baseline' or both"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: 1, against: {baseline: ../x}}\n", "baseline"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: 1, slice: {x: 1, y: 2}}\n", "slice"),
        ("version: 1\nchecks:\n  - {id: a, metric: m, min: 1}\n  - {id: a, metric: m, min: 1}\n", "'a' is used twice"),
        ("version: 1\ndefaults: {confidence: 1}\n", "confidence"),
        (f"version: 1\ndefaults: {{min_samples: 1{'0' * 400}}}\n", "less than or equal to 1000000000"),
        ("version: 1\ndirection: lower\n", "unknown key 'direction'"),
        ("version: 1\nversion: 1\n", "is repeated"),
        ("- 1\n", "expected keys and values"),
        ("{", "not valid YAML"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_numbers_serve_as_ids(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, "version: 1\nchecks:\n  - {id: 7, metric: m, min: 1, must_pass: [12, x], slice: {year: 2020}}\n"
    )
    check = loaded.checks[0]
    assert (check.id, check.must_pass, check.slice) == ("7", ("12", "x"), {"year": "2020"})


def test_a_shipped_name_is_found_and_an_unknown_one_is_answered_with_the_nearest() -> None:
    assert load_policy("adapter-release").source.endswith("adapter-release.yaml")
    with pytest.raises(InputError, match="Did you mean 'adapter-release'"):
        load_policy("adapter-relaese")


def test_a_chain_of_aliases_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    chain = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
    )
    assert "too many" in refusal(tmp_path, chain)

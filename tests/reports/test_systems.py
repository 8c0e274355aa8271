"""Which variants of several runs are one system, in which order, and what each is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reports.compare import comparison, comparison_text, render_comparison
from reports.systems import System
from tests.run_folders import make_run, random_values

Compare = Callable[..., tuple[System, ...]]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Return the systems of runs whose variants have the given digests of weights, best first."""

    def made(*runs: Mapping[str, str | None]) -> tuple[System, ...]:
        folders = [weighed(tmp_path / f"run-{k}", digests) for k, digests in enumerate(runs)]
        return comparison(folders).systems

    return made


def weighed(root: Path, digests: Mapping[str, str | None], **how: Any) -> Any:
    values = random_values(20, variants=tuple(digests))
    known = {f"weights/{name}": digest for name, digest in digests.items() if digest}
    return make_run(root, values, digests=known, **how)


def names(systems: tuple[System, ...]) -> set[tuple[str | None, ...]]:
    return {system.names for system in systems}


def test_the_same_weights_under_another_name_are_one_system(compare: Compare) -> None:
    found = compare({"base": "v2:a", "adapter": "v2:b"}, {"base": "v2:a", "last": "v2:b", "adapter": "v2:c"})
    assert names(found) == {("base", "base"), ("adapter", "last"), (None, "adapter")}


def test_one_name_with_other_weights_is_two_systems_and_the_new_is_compared_with_the_old(compare: Compare) -> None:
    found = compare({"base": "v2:a", "adapter": "v2:b"}, {"base": "v2:a", "adapter": "v2:c"})
    assert names(found) == {("base", "base"), ("adapter", None), (None, "adapter")}
    assert {system.names: system.against for system in found}[None, "adapter"] == (None, "adapter")


def test_two_names_of_the_same_weights_in_one_run_stay_apart(compare: Compare) -> None:
    found = compare({"base": "v2:a", "again": "v2:a"}, {"again": "v2:a", "base": "v2:a"})
    assert names(found) == {("base", "base"), ("again", "again")}


def test_a_name_goes_before_another_name_of_the_same_weights(compare: Compare) -> None:
    found = compare({"base": "v2:a", "adapter": "v2:b"}, {"base": "v2:a", "copy": "v2:b", "adapter": "v2:b"})
    assert names(found) == {("base", "base"), ("adapter", "adapter"), (None, "copy")}


@pytest.mark.parametrize("then", [None, "b"])
def test_without_digests_of_one_form_the_name_decides(compare: Compare, then: str | None) -> None:
    """Replies from files have none; those of 0.1.0 have another form."""
    assert names(compare({"gpt": then}, {"gpt": "v2:b"})) == {("gpt", "gpt")}


def test_one_digest_in_another_precision_is_another_system(tmp_path: Path) -> None:
    first = weighed(tmp_path / "first", {"base": "v2:a"})
    variants = ({**first.read_manifest().variants[0], "quantization": "nf4"},)
    second = weighed(tmp_path / "second", {"base": "v2:a"}, variants=variants)
    assert names(comparison([first, second]).systems) == {("base", None), (None, "base")}


def test_systems_are_best_first(tmp_path: Path) -> None:
    values = random_values(40, gain=0.1)
    values["merged"]["quality.rouge_l"] = [0.9] * 20 + [0.8] * 20
    folder = make_run(tmp_path / "run", values)
    found = comparison([folder, folder]).systems
    assert [system.name for system in found] == ["merged", "adapter", "base"]


def test_equal_rows_are_folded_to_their_names(tmp_path: Path) -> None:
    folder = weighed(tmp_path / "run", {"base": "v2:a", "adapter": "v2:b"})
    for one in comparison([folder, folder]).compared:
        assert one.groups == ()
        assert set(one.equal) == {"ROUGE-L", "nll", "Empty reply"}
    assert "3 metrics equal in all runs: ROUGE-L, nll, Empty reply" in comparison_text([folder, folder])
    assert "3 metrics equal in all runs" in render_comparison([folder, folder])


def test_runs_without_a_candidate_in_common_say_so(tmp_path: Path) -> None:
    first = weighed(tmp_path / "first", {"base": "v2:a", "adapter-7": "v2:b"})
    second = weighed(tmp_path / "second", {"base": "v2:a", "adapter-8": "v2:c"})
    text = " ".join(comparison_text([first, second]).split())
    note = "No candidate in common: first has no variant of the weights or the name of adapter-8; its own is adapter-7."
    assert note in text
    assert note in render_comparison([first, second])
    assert "adapter-8 (c): 3 metrics; not in first, which has no variant of its weights or name" in text
    assert "no clear difference" not in text


def test_an_adapter_is_compared_with_its_namesake_of_other_weights(tmp_path: Path) -> None:
    first = weighed(tmp_path / "first", {"base": "v2:a", "adapter": "v2:b"})
    values = random_values(20, variants=("base", "adapter"))
    noise = [0.3 + 0.01 * (k % 3) for k in range(20)]
    values["adapter"]["quality.nll"] = [
        (was or 0.0) - by for was, by in zip(values["adapter"]["quality.nll"], noise, strict=True)
    ]
    digests = {"weights/base": "v2:a", "weights/adapter": "v2:c"}
    second = make_run(tmp_path / "second", values, digests=digests)
    text = " ".join(comparison_text([first, second]).split())
    assert "adapter (c): 3 metrics; other weights than adapter in first, which it is compared with: 1 better" in text
    assert "No candidate in common" not in text

"""Fingerprints: what is found by them, what is not, and that their file can be trusted."""

from __future__ import annotations

import dataclasses
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialogues.leakage import THRESHOLD, combine, find_leaks, fingerprint, load_fingerprints
from harness.dialogues.load import load_dialogues
from harness.dialogues.model import Dialogue
from harness.dialogues.shingles import Shingler, jaccard
from harness.dialogues.split import select
from harness.errors import InputError
from tests.dialogues.conftest import dialogue
from tests.shared_data import shared

WORDS = [f"word{number}" for number in range(400)]


def long_dialogue(seed: int, words: int = 120) -> Dialogue:
    source = random.Random(seed)
    return dialogue(f"question {seed}", " ".join(source.choices(WORDS, k=words)), id=str(seed))


def with_words_changed(one: Dialogue, *places: int) -> Dialogue:
    words = (one.reference or "").split()
    for place in places:
        words[place] = "changed"
    return dataclasses.replace(one, id=f"{one.id} changed", reference=" ".join(words))


def exact_jaccard(one: Dialogue, other: Dialogue) -> float:
    """Compute the index from the words themselves, without a hash."""
    sets = []
    for each in (one, other):
        words = f"{each.prompt} {each.reference}".split()
        sets.append({tuple(words[at : at + 5]) for at in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_a_repeated_dialogue_is_exact_whatever_its_case_and_spacing() -> None:
    trained = fingerprint([long_dialogue(1), dialogue("What helps?", "Rest well.")])
    leaks = find_leaks([dialogue("WHAT  helps?", "rest\nwell.", id="same"), long_dialogue(2)], trained)
    assert (leaks.exact, dict(leaks.near or {})) == (("same",), {})


def test_a_dialogue_with_a_word_changed_is_near_and_its_jaccard_exact() -> None:
    trained = [long_dialogue(seed) for seed in range(20)]
    changed = with_words_changed(trained[7], 60)
    leaks = find_leaks([changed], fingerprint(trained))
    assert leaks.exact == ()
    assert leaks.near is not None
    assert leaks.near[changed.id].jaccard == pytest.approx(exact_jaccard(changed, trained[7]), abs=1e-12)
    assert leaks.near[changed.id].trained == fingerprint([trained[7]]).dialogues.tobytes().hex()
    assert leaks.ids == {changed.id}


def test_the_threshold_decides_by_the_exact_index() -> None:
    one = long_dialogue(3)
    for count in range(1, 12):
        changed = with_words_changed(one, *range(4, 4 + 9 * count, 9))
        found = find_leaks([changed], fingerprint([one])).ids
        assert bool(found) == (exact_jaccard(changed, one) >= THRESHOLD)


def test_the_same_question_with_another_answer_is_told_and_is_no_leak() -> None:
    trained = fingerprint([long_dialogue(1)])
    other = dataclasses.replace(long_dialogue(2), prompt="question 1")
    leaks = find_leaks([other], trained)
    assert leaks.ids == frozenset()
    assert leaks.same_prompt == ("2",)


def test_dialogues_of_one_mould_are_not_near() -> None:
    mould = "Thank you for telling me. It sounds like {0}. Please take {1} and come back in {2} days if it persists."
    trained = fingerprint([dialogue("I have a cough", mould.format("a cold", "warm tea", 3))])
    held_out = dialogue("My knee hurts since Monday", mould.format("a sprain", "ibuprofen with food", 7))
    assert find_leaks([held_out], trained).ids == frozenset()


@pytest.mark.parametrize(("prompt", "reference"), [("Flu?", "Rest."), ("?", "!"), ("a b", "c d")])
def test_dialogues_shorter_than_a_shingle_match_only_as_a_whole(prompt: str, reference: str) -> None:
    trained = fingerprint([dialogue("Flu?", "Rest."), dialogue("a b", "c d")])
    assert Shingler().shingles(dialogue(prompt, reference)).size == 1
    assert find_leaks([dialogue(f"{prompt} more", reference)], trained).ids == frozenset()


def test_a_dialogue_without_reference_has_fingerprints() -> None:
    one = dialogue("I have had a bad cough for a week", None)
    assert find_leaks([one], fingerprint([one])).exact == (one.id,)


def test_nothing_trained_and_nothing_held_out_leak_nothing() -> None:
    assert find_leaks([long_dialogue(1)], fingerprint([])).ids == frozenset()
    assert find_leaks([], fingerprint([long_dialogue(1)])).ids == frozenset()


def test_every_near_duplicate_of_many_is_found() -> None:
    trained = [long_dialogue(seed, 60) for seed in range(300)]
    changed = [with_words_changed(each, 2) for each in trained]
    assert all(exact_jaccard(one, other) > 0.8 for one, other in zip(trained, changed, strict=True))
    leaks = find_leaks(changed, fingerprint(trained))
    assert len(leaks.near or {}) == 300


def test_several_trainings_count_together() -> None:
    parts = [fingerprint([long_dialogue(seed), long_dialogue(seed + 1)]) for seed in (0, 2)]
    together = combine(parts)
    whole = fingerprint([long_dialogue(seed) for seed in range(4)])
    for name in ("dialogues", "prompts", "signatures", "shingles", "offsets"):
        assert np.array_equal(getattr(together, name), getattr(whole, name))
    assert len(combine([])) == 0


def test_shingle_hashes_are_the_same_on_every_machine() -> None:
    # Written down once: a change of these makes fingerprints that lie beside adapters worthless.
    shingles = Shingler().shingles(dialogue("What helps against a cold?", "Rest."))
    assert shingles.tolist() == [381234238, 1479593716]
    assert fingerprint([dialogue("What helps against a cold?", "Rest.")]).signatures[0, :3].tolist() == [
        1601232927,
        1646761376,
        341791962,
    ]


@given(st.lists(st.sampled_from("abcdefg"), min_size=5), st.lists(st.sampled_from("abcdefg"), min_size=5))
def test_jaccard_of_hashes_is_jaccard_of_shingles(one: list[str], other: list[str]) -> None:
    left, right = (dialogue(words[0], " ".join(words[1:])) for words in (one, other))
    shingler = Shingler()
    assert jaccard(shingler.shingles(left), shingler.shingles(right)) == pytest.approx(exact_jaccard(left, right))


class TestFile:
    """``trained_on.npz``."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "adapter" / "trained_on.npz"
        fingerprint([long_dialogue(seed) for seed in range(5)]).save(path)
        return path

    def test_it_says_afterwards_what_it_said_before(self, path: Path) -> None:
        held_out = [long_dialogue(2), with_words_changed(long_dialogue(3), 9), long_dialogue(9)]
        trained = fingerprint([long_dialogue(seed) for seed in range(5)])
        assert find_leaks(held_out, load_fingerprints(path)) == find_leaks(held_out, trained)
        assert [each.name for each in path.parent.iterdir()] == ["trained_on.npz"]

    def test_it_holds_no_text(self, path: Path) -> None:
        assert b"word" not in path.read_bytes()

    def test_it_is_the_same_for_the_same_dialogues(self, path: Path) -> None:
        before = path.read_bytes()
        fingerprint([long_dialogue(seed) for seed in range(5)]).save(path)
        assert path.read_bytes() == before

    def test_any_damage_is_an_input_error(self, path: Path) -> None:
        whole = path.read_bytes()
        source = random.Random(5)
        for _ in range(150):
            damaged = bytearray(whole)
            if source.random() < 0.5:
                del damaged[source.randrange(len(whole)) :]
            else:
                for _ in range(source.randrange(1, 30)):
                    damaged[source.randrange(len(whole))] ^= 1 << source.randrange(8)
            path.write_bytes(damaged)
            try:
                found = load_fingerprints(path)
            except InputError:
                continue
            # A bit flipped in what the archive does not check, e.g. a time stamp.
            assert find_leaks([long_dialogue(2)], found).exact == ("2",)

    def test_a_pickle_is_not_opened(self, path: Path, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        path.write_bytes(pickle.dumps(Trap()))
        with pytest.raises(InputError):
            load_fingerprints(path)
        np.savez(path, format=np.array([1]), dialogues=np.array([Trap()], dtype=object))
        with pytest.raises(InputError):
            load_fingerprints(path)
        assert not (tmp_path / "sprung").exists()

    def test_arrays_that_do_not_fit_each_other_are_damage(self, path: Path) -> None:
        arrays = dict(np.load(path))
        for name, value in {"offsets": arrays["offsets"] + 1, "prompts": arrays["prompts"][:-1]}.items():
            np.savez(path, **{**arrays, name: value})
            with pytest.raises(InputError, match="damaged"):
                load_fingerprints(path)

    def test_another_version_is_said_to_be_one(self, path: Path) -> None:
        np.savez(path, **{**dict(np.load(path)), "format": np.array([2])})
        with pytest.raises(InputError, match="another version"):
            load_fingerprints(path)

    def test_an_absent_file_is_an_input_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="There are no training fingerprints at"):
            load_fingerprints(tmp_path / "trained_on.npz")


@pytest.mark.shared
def test_real_near_duplicates_are_found_and_no_others() -> None:
    dialogues = load_dialogues(shared("data/medquad-treatments/medquad_treatments.jsonl")).dialogues
    salt = "medical-dialogue-harness"
    held_out, train = select(dialogues, "test", salt), select(dialogues, "train", salt)
    trained = fingerprint(train)
    leaks = find_leaks(held_out, trained)
    of_held_out = fingerprint(held_out)
    expected = {
        one.id
        for index, one in enumerate(held_out)
        if any(
            jaccard(of_held_out.shingles_of(index), trained.shingles_of(other)) >= THRESHOLD
            for other in range(len(trained))
            if 0.7 < of_held_out.shingles_of(index).size / trained.shingles_of(other).size < 1.4
        )
    }
    assert leaks.ids == expected
    assert len(expected) == 4


def chinese(seed: int, characters: int = 160) -> str:
    source = random.Random(seed)
    return "".join(chr(source.randrange(0x4E00, 0x4E00 + 3000)) for _ in range(characters))


@pytest.mark.parametrize("text", [chinese(1), "ปวดหัวมาสองวันแล้วควรทำอย่างไรดีและต้องไปพบแพทย์เมื่อใด" * 3])
def test_one_changed_character_is_found_where_words_have_no_spaces(text: str) -> None:
    trained = fingerprint([dialogue("头痛怎么办？", text), *(dialogue("咳嗽", chinese(seed)) for seed in range(2, 9))])
    changed = dialogue("头痛怎么办？", f"{text[:80]}x{text[81:]}", id="changed")
    assert find_leaks([changed, dialogue("咳嗽", chinese(20), id="other")], trained).ids == {"changed"}


def with_system_prompt(seed: int, words: int = 441) -> Dialogue:
    rules = " ".join(f"rule{number}" for number in range(words))
    one = long_dialogue(seed, words=40)
    return dataclasses.replace(one, prompt=f"Note: {rules}\nPatient: {one.prompt}")


def test_a_system_prompt_that_all_share_makes_no_dialogue_trained_on() -> None:
    trained = fingerprint([with_system_prompt(seed) for seed in range(40)])
    held_out = [with_system_prompt(seed) for seed in range(100, 120)]
    assert exact_jaccard(held_out[0], with_system_prompt(0)) > THRESHOLD
    assert find_leaks(held_out, trained).ids == frozenset()
    changed = with_words_changed(with_system_prompt(7), 39)
    assert find_leaks([*held_out, changed], trained).ids == {changed.id}


def test_dialogues_of_nothing_but_what_all_share_are_still_compared() -> None:
    shared_part = long_dialogue(1)
    trained = fingerprint(
        [
            shared_part,
            *(dataclasses.replace(shared_part, reference=f"{shared_part.reference} word{n}") for n in range(20)),
        ]
    )
    same_words = dataclasses.replace(shared_part, prompt="question  1!", id="again")
    assert find_leaks([same_words], trained).ids == {"again"}


def test_few_training_dialogues_share_nothing_by_chance() -> None:
    trained = fingerprint([long_dialogue(1), with_words_changed(long_dialogue(1), 3), long_dialogue(2)])
    assert find_leaks([with_words_changed(long_dialogue(1), 60)], trained).ids == {"1 changed"}

"""One reply for all: found across a system's replies, exactly or nearly, and not where the references are alike too."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest

from harness.metrics.registry import Item
from harness.metrics.text import near_copies
from harness.metrics.text.collapse import NAME, SIMILAR, Collapse, jaccard, shingles

TIP = "please drink plenty of water and rest for two days and come back if the fever does not go down"


def items(replies: list[str | None], references: list[str] | None = None, system: str = "a") -> list[Item]:
    references = references or [f"reference {number} {number * 7}" for number in range(len(replies))]
    return [
        Item(id=f"d{number}", prompt=f"question {number}", reference=reference, reply=reply, system=system)
        for number, (reply, reference) in enumerate(zip(replies, references, strict=True))
    ]


def values(found: list[Item]) -> list[float | None]:
    return [scores.values[NAME] for scores in Collapse().score(found)]


def test_the_same_reply_to_two_questions_counts_for_both() -> None:
    assert values(items([TIP, "take two tablets daily with food", TIP.upper()])) == [1.0, 0.0, 1.0]


def test_a_reply_with_most_of_another_s_wording_counts() -> None:
    assert values(items([TIP, TIP.replace("two days", "one week")])) == [1.0, 1.0]


def test_a_greeting_in_common_is_not_the_same_reply() -> None:
    hello = "hello and thank you for asking "
    apart = [
        "the rash needs a cream twice a day for a week",
        "your knee should be seen by a surgeon after the swelling",
    ]
    assert values(items([hello + text for text in apart])) == [0.0, 0.0]


def test_what_the_references_share_too_does_not_count() -> None:
    assert values(items([TIP, TIP], [TIP, TIP + " tomorrow"])) == [0.0, 0.0]


def test_the_same_question_asked_twice_may_get_the_same_reply() -> None:
    first, second = items([TIP, TIP])
    again = Item(id="d1", prompt=first.prompt, reference=second.reference, reply=TIP, system="a")
    assert values([first, again]) == [0.0, 0.0]


def test_replies_of_different_systems_are_not_compared() -> None:
    assert values([*items([TIP], system="a"), *items([TIP], system="b")]) == [0.0, 0.0]


@pytest.mark.parametrize("nothing", [None, "", " \n", "!?"])
def test_without_words_it_is_undefined(nothing: str | None) -> None:
    assert values(items([nothing, nothing])) == [None, None]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert values(items(["请多喝水并休息两天如果发烧请就医", "请多喝水并休息三天如果发烧请就医", "每天服用一次"])) == [
        1.0,
        1.0,
        0.0,
    ]


@pytest.mark.parametrize("bits", [21, 2], ids=["three words in a number", "too many words for that"])
def test_prefix_filtering_finds_what_comparing_each_with_each_finds(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_copies, "_WORD_BITS", bits)
    monkeypatch.setattr(near_copies, "_MANY", bits)
    chance = random.Random(3)
    words = ["a", "b", "c", "d", "e", "f", "g", "h"]
    replies = [" ".join(chance.choices(words, k=chance.randrange(1, 14))) for _ in range(120)]
    found = {item.id for item, value in zip(items(replies), values(items(replies)), strict=True) if value}
    sets = [shingles(reply) for reply in replies]
    pairs = [pair for pair in combinations(range(120), 2) if jaccard(sets[pair[0]], sets[pair[1]]) >= SIMILAR]
    assert found == {f"d{place}" for pair in pairs for place in pair}
    assert 10 < len(found) < 110


def test_the_finding_names_the_other_question() -> None:
    first, _ = Collapse().score(items([TIP, TIP]))
    assert [finding.rule for finding in first.findings] == ["also the reply to d1"]


@pytest.mark.parametrize("many", [2, 1 << 8], ids=["one by one", "together"])
def test_of_many_replies_each_is_compared_with_a_bounded_number(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    alike = near_copies._alike

    def counting(*arguments: Any) -> Any:
        compared.append(len(arguments[-1]))
        return alike(*arguments)

    monkeypatch.setattr(near_copies, "_alike", counting)
    monkeypatch.setattr(near_copies, "_MANY", many)
    chance = random.Random(3)
    replies = items([" ".join(chance.choices("abcdefgh", k=12)) for _ in range(400)])
    Collapse().score(replies)
    assert sum(compared) > 20 * len(replies)
    compared.clear()
    monkeypatch.setattr(near_copies, "EXACT", 100)
    monkeypatch.setattr(near_copies, "MOST", 20)
    Collapse().score(replies)
    assert 10 * len(replies) < sum(compared) <= 20 * len(replies)

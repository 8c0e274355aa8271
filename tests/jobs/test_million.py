"""The benchmark of a million replies, at four dialogues."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.million import FEWEST, MOST, SYSTEMS, growth, write_replies


def test_replies_are_made_again_from_the_seed_and_have_the_stated_lengths(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    for folder in (one, two):
        folder.mkdir()
        write_replies(folder, 4)
    for name in SYSTEMS:
        lines = (one / f"{name}.jsonl").read_text()
        assert lines == (two / f"{name}.jsonl").read_text()
        rows = [json.loads(line) for line in lines.splitlines()]
        longest_sentence = 25
        assert all(FEWEST <= len(row["reply"].split()) <= MOST + longest_sentence for row in rows)
        assert len({row["reply"] for row in rows}) == 4


def test_growth_is_per_further_reply_of_both_commands() -> None:
    def size(dialogues: int, seconds: float, peak: float) -> dict[str, object]:
        took = {"seconds": seconds, "cpu_seconds": 2 * seconds, "peak_rss_mib": peak}
        return {"dialogues": dialogues, "replies": 3 * dialogues, "score": took, "report": took}

    (step,) = growth([size(1000, 5.0, 100.0), size(2000, 8.0, 103.0)])
    assert step == {
        "from": 1000,
        "to": 2000,
        "cpu_ms_per_reply": 4.0,
        "wall_ms_per_reply": 2.0,
        "bytes_per_reply": 1049,
    }

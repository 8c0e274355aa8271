"""Patients' questions and doctors' replies, drawn from the table of conditions in many wordings.

The question determines the reply: a red flag calls for urgent help first, a reason against the first treatment leads to
the next one, and a denied red flag is acknowledged. A model that learns only the form of the replies scores poorly.
"""

from __future__ import annotations

import json
from pathlib import Path

from finetune.synthetic.cases import draw_case
from finetune.synthetic.conditions import load_conditions
from finetune.synthetic.question import write_question
from finetune.synthetic.reply import write_reply
from finetune.synthetic.wording import Writer, bare

DEFAULT_COUNT = 1700
DEFAULT_SEED = 42


def synthetic_dialogues(*, seed: int = DEFAULT_SEED, count: int = DEFAULT_COUNT) -> list[dict[str, str]]:
    """Return ``count`` dialogues with different questions, spread evenly over the conditions; reproducible for a seed.

    Each row has ``id``, ``condition``, ``category``, ``urgency`` (``urgent`` or ``routine``), ``drug`` (the first
    treatment suitable for the patient), ``instruction``, ``input`` (empty if the instruction contains the question) and
    ``output``, the doctor's reply.
    """
    conditions = load_conditions()
    seen: set[tuple[str, str]] = set()
    rows: list[dict[str, str]] = []
    draw = 0
    while len(rows) < count:
        condition = conditions[len(rows) % len(conditions)]
        writer = Writer(seed, "dialogue", condition.name, draw)
        draw += 1
        case = draw_case(condition, writer)
        instruction, text = write_question(case, writer)
        if (instruction, text) in seen:
            continue
        seen.add((instruction, text))
        rows.append(
            {
                "id": f"syn-{len(rows) + 1:05d}",
                "condition": bare(condition.name),
                "category": condition.category,
                "urgency": case.urgency,
                "drug": case.treatment.drug,
                "instruction": instruction,
                "input": text,
                "output": write_reply(case, writer),
            }
        )
    return rows


def write_dialogues(path: Path, *, seed: int = DEFAULT_SEED, count: int = DEFAULT_COUNT) -> None:
    """Write the dialogues as JSON Lines, byte for byte reproducible for a seed and count."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in synthetic_dialogues(seed=seed, count=count)]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")

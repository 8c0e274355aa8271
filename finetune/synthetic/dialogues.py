"""Patients' questions and doctors' replies, each drawn from a condition of the table in one of very many wordings.

What the patient says decides what the doctor answers: a red flag brings urgent help before all else, something that
rules the first treatment out brings the next one, a denied red flag is acknowledged. So a model that learns the reply's
form alone cannot score well.
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
    """Return ``count`` dialogues with different questions, evenly over the conditions; the same for the same seed.

    Each row has ``id``, ``condition``, ``category``, ``urgency`` (``urgent`` or ``routine``), ``drug`` (the first
    treatment that this patient may have), ``instruction``, ``input`` (empty where the question is in the instruction)
    and ``output``, the doctor's reply.
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
    """Write the dialogues as JSON Lines, byte for byte the same for the same seed and count."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in synthetic_dialogues(seed=seed, count=count)]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")

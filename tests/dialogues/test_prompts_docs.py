"""docs/prompts.md: its template is one, gives the prompt that the page shows, and every variable is described."""

from __future__ import annotations

import re
from pathlib import Path

from harness.dialogues.model import Turn
from harness.dialogues.prompts import VARIABLES, load_template
from tests.dialogues.conftest import dialogue

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    return str(found)


def test_every_variable_is_described() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", TEXT, flags=re.MULTILINE)) == VARIABLES


def test_the_example_gives_the_prompt_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "clinic.jinja"
    path.write_text(block("jinja"), encoding="utf-8")
    template, question = load_template(path), "My ankle is swollen. Should I rest it?"
    assert template.render(dialogue(question, columns={"age": 54})) == block("text")
    turns = (Turn("patient", question), Turn("doctor", "Since when?"), Turn("patient", "Monday."))
    assert template.render(dialogue(question, turns=turns)) == (
        f"Patient: {question}\nDoctor: Since when?\nPatient: Monday.\nDoctor:\n"
    )

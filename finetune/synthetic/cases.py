"""One patient's case, drawn from a condition, from which the question and the reply are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetune.synthetic.conditions import Condition, Treatment
from finetune.synthetic.wording import Writer, can_be_denied, duration

# The share of dialogues on ordinary conditions in which the patient also mentions a red flag.
_URGENT_SHARE = 0.3
_CHILDBEARING_AGES = (19, 41)


@dataclass(frozen=True)
class Case:
    """The facts of one patient's case."""

    condition: Condition
    age: int
    sex: Literal["woman", "man"]
    symptoms: tuple[str, ...]
    lasting: str
    names_condition: bool
    red_flag: str | None
    denied: str | None
    rules_out: str | None

    @property
    def is_child(self) -> bool:
        """Whether a parent asks for a child."""
        return self.condition.who == "child"

    @property
    def urgency(self) -> Literal["urgent", "routine"]:
        """Whether help is needed at once."""
        return "urgent" if self.condition.emergency or self.red_flag else "routine"

    @property
    def treatment(self) -> Treatment:
        """The first treatment that is not ruled out for this patient."""
        return next(t for t in self.condition.treatments if not t.unless or t.unless != self.rules_out)


def draw_case(condition: Condition, writer: Writer) -> Case:
    """Return a patient with this condition: about half are urgent, mention a red flag, or need another drug."""
    red_flag = denied = rules_out = None
    if condition.emergency:
        red_flag = writer.pick(condition.urgent) if writer.chance(0.5) else None
    elif writer.chance(_URGENT_SHARE):
        red_flag = writer.pick(condition.urgent)
    else:
        deniable = [flag for flag in condition.urgent if can_be_denied(flag)]
        if deniable and writer.chance(0.3):
            denied = writer.pick(deniable)
        reason = condition.treatments[0].unless
        if reason and writer.chance(0.3):
            rules_out = reason
    sex: Literal["woman", "man"] = "man" if condition.who == "man" else writer.pick(("woman", "man"))
    ages = condition.ages
    if condition.who == "woman" or rules_out == "a pregnancy":
        sex = "woman"
    if rules_out == "a pregnancy":
        ages = _CHILDBEARING_AGES
    symptoms = [symptom for symptom in condition.symptoms if symptom != red_flag]
    return Case(
        condition=condition,
        age=writer.number(*ages),
        sex=sex,
        symptoms=tuple(writer.some(symptoms, writer.number(1, 3))),
        lasting=duration(writer, condition.review),
        names_condition=writer.chance(0.35 if condition.emergency else 0.7),
        red_flag=red_flag,
        denied=denied,
        rules_out=rules_out,
    )

"""A doctor's reply: an emergency first, then the finding, the treatment, advice and a follow-up."""

from __future__ import annotations

from finetune.synthetic.cases import Case
from finetune.synthetic.wording import Writer, bare

_FINDING = (
    "This sounds like {name}.",
    "What you describe fits {name}.",
    "Most likely this is {name}.",
    "Your account points to {name}.",
    "I agree that {name} is the likely cause.",
    "These are signs of {name}, {about}.",
    "It seems to be {name}, {about}.",
    "{finding} can well mean {name}.",
    "With {finding} I think of {name}.",
)
_TREAT = (
    "I suggest {drug}, {dose}.",
    "The usual treatment is {drug}, {dose}.",
    "Start with {drug}, {dose}.",
    "What helps most is {drug}, {dose}.",
    "A good choice is {drug}, {dose}.",
    "I would begin with {drug}, {dose}.",
    "Treatment begins with {drug}, {dose}.",
    "My advice is {drug}, {dose}.",
)
_INSTEAD = (
    "Because of {reason}, {first} is not for you; choose {drug}, {dose}.",
    "With {reason} you should not have {first}, so I suggest {drug}, {dose}.",
    "{first} should not be used with {reason}; the safer choice is {drug}, {dose}.",
    "As there is {reason}, leave out {first} and begin with {drug}, {dose}.",
)
_NEXT = (
    "If that fails, the next step is {drug}, {dose}.",
    "Should it not help enough, there is {drug}, {dose}.",
    "Another option is {drug}, {dose}.",
)
_CARE = (
    "It helps to {one} and to {two}.",
    "Please {one} and {two}.",
    "At home, {one} and {two}.",
    "Beside that, {one}, and {two}.",
    "You can also {one} and {two}.",
    "Remember to {one}.",
    "I would also {one}.",
)
_AVOID = (
    "Do not {one}.",
    "Please do not {one}.",
    "It is better not to {one}.",
    "You should not {one}.",
    "Never {one}.",
)
_REASSURE = (
    "With no {flag}, this can wait for a normal appointment.",
    "It is good that there is no {flag}.",
    "As you have no {flag}, treatment at home is safe.",
    "Without {flag} there is no need for the hospital.",
)
_IF_WORSE = (
    "Go to the emergency department if there is {flag}.",
    "Call an ambulance in case of {flag}.",
    "If you notice {flag}, go to the emergency department at once.",
    "{flag} would need emergency care.",
)
_REVIEW = (
    "See me again if it is no better in {review}.",
    "Come back after {review} if it has not improved.",
    "We should look at it again in {review}.",
    "If it lasts longer than {review}, make an appointment.",
)
_ALARM = (
    "I take {flag} as a warning sign: go to the emergency department now.",
    "Please call an ambulance now, because {flag} can be dangerous.",
    "This is an emergency. With {flag} you must go to the emergency department at once.",
    "Go to the nearest emergency department immediately: {flag} cannot wait.",
    "Call the emergency number right away; {flag} should be seen at once.",
    "You need emergency care today for {flag}. Call an ambulance.",
)
_LIKELY = ("It may be {name}.", "I fear {name}.", "This could be {name}, {about}.", "The cause is likely {name}.")
_LATER = (
    "Treatment there may be {drug}, {dose}.",
    "For {name} the usual treatment is {drug}, {dose}.",
    "The doctors may give {drug}, {dose}.",
    "Later you may need {drug}, {dose}.",
)
_AT_ONCE = ("The treatment is {drug}, {dose}.", "What counts is {drug}, {dose}.", "You will need {drug}, {dose}.")
_WHILE_WAITING = ("While you wait, {one}.", "Until help comes, {one}.", "In the meantime, {one}.")


def write_reply(case: Case, writer: Writer) -> str:
    """Return the doctor's reply as one paragraph."""
    text = _urgent_reply(case, writer) if case.urgency == "urgent" else _routine_reply(case, writer)
    return text.replace(" for you;", " for your child;") if case.is_child else text


def _routine_reply(case: Case, writer: Writer) -> str:
    condition, given = case.condition, case.treatment
    parts = [_finding(case, writer), _treatment(case, writer)]
    later = [t for t in condition.treatments if t != given and t.unless != case.rules_out]
    if later and not case.rules_out and writer.chance(0.3):
        parts.append(writer.say(_NEXT, drug=later[0].drug, dose=later[0].dose))
    one, two = writer.some(condition.self_care, 2)
    advice = [writer.say(_CARE, one=one, two=two)]
    if writer.chance(0.55):
        advice.append(writer.say(_AVOID, one=writer.pick(condition.avoid)))
    parts += writer.some(advice, len(advice))
    if case.denied:
        parts.append(writer.say(_REASSURE, flag=bare(case.denied)))
    elif writer.chance(0.5):
        parts.append(writer.say(_IF_WORSE, flag=writer.pick(condition.urgent)))
    if writer.chance(0.6):
        parts.append(writer.say(_REVIEW, review=condition.review))
    return " ".join(parts)


def _finding(case: Case, writer: Writer) -> str:
    return writer.say(
        _FINDING, name=case.condition.name, about=case.condition.about, finding=writer.pick(case.symptoms)
    )


def _treatment(case: Case, writer: Writer) -> str:
    first, given = case.condition.treatments[0], case.treatment
    if case.rules_out:
        return writer.say(_INSTEAD, reason=case.rules_out, first=first.drug, drug=given.drug, dose=given.dose)
    return writer.say(_TREAT, drug=given.drug, dose=given.dose)


def _urgent_reply(case: Case, writer: Writer) -> str:
    condition, given = case.condition, case.treatment
    alarm = writer.say(_ALARM, flag=case.red_flag or writer.pick(case.symptoms))
    names = {"name": condition.name, "about": condition.about}
    likely = writer.say(_LIKELY if condition.emergency else _FINDING[:5], **names)
    treat = writer.say(_AT_ONCE if condition.emergency else _LATER, drug=given.drug, dose=given.dose, **names)
    advice = [writer.say(_AVOID, one=writer.pick(condition.avoid))] if writer.chance(0.7) else []
    if condition.emergency:
        advice.append(writer.say(_WHILE_WAITING, one=writer.pick(condition.self_care)))
    parts = [alarm, likely] if writer.chance(0.7) else [likely, alarm]
    return " ".join([*parts, treat, *writer.some(advice, len(advice))])

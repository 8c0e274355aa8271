"""A patient's question: person, complaint and other relevant facts, in many wordings."""

from __future__ import annotations

from finetune.synthetic.cases import Case
from finetune.synthetic.wording import Writer, bare, is_verbal, listed

_ASKS = (
    "What should I do?",
    "How is this treated?",
    "What treatment do you advise?",
    "Which medicine would help?",
    "What can I take for it?",
    "Please tell me what my options are.",
    "What would you suggest, doctor?",
    "How can I get better?",
    "Is there anything that helps?",
    "What is the best treatment?",
    "Could you advise me, please?",
    "What are the next steps?",
)
_PERSON = ("I am a {age}-year-old {sex}.", "I am {age}.", "{sex}, {age} years old.", "I am {age} years old, a {sex}.")
_CHILD = (
    "my {age}-year-old {child}",
    "my {child}, who is {age},",
    "our {child} of {age}",
    "our {age}-year-old {child}",
)
_HAD = (
    "For {lasting} I have had {symptoms}.",
    "I have had {symptoms} for {lasting}.",
    "I have {symptoms}, now for {lasting}.",
    "I got {symptoms} {lasting} ago.",
    "Over the last {lasting} I developed {symptoms}.",
    "I came down with {symptoms} {lasting} ago.",
)
_NOTICED = (
    "For {lasting} the trouble has been {symptoms}.",
    "What bothers me is {symptoms}, for {lasting} now.",
    "I have suffered from {symptoms} for {lasting}.",
    "It started {lasting} ago with {symptoms}.",
    "My complaint is {symptoms}; it began {lasting} ago.",
    "I have been troubled by {symptoms} for {lasting}.",
)
_CHILD_HAS = (
    "{child} has suffered from {symptoms} for {lasting}.",
    "for {lasting} {child} has been troubled by {symptoms}.",
    "with {child} it started {lasting} ago: {symptoms}.",
    "what worries me about {child} is {symptoms}, for {lasting} now.",
    "{lasting} ago it began for {child} with {symptoms}.",
)
_NAMED = (
    "I was told it is {name}.",
    "The nurse thinks it is {name}.",
    "I believe it is {name}.",
    "My doctor called it {name}.",
    "Could it be {name}?",
    "It looks like {name} to me.",
    "A friend says this is {name}.",
    "It may be {name}.",
)
_FLAG = (
    "Since this morning there is also {flag}.",
    "Now I notice {flag} as well.",
    "Today it got worse, with {flag}.",
    "On top of that comes {flag}.",
    "In the last hour I noticed {flag}.",
    "What frightens me is {flag}.",
)
_DENIED = (
    "There is no {flag}.",
    "I see no {flag}.",
    "So far no {flag}.",
    "I can rule out {flag}: there is none.",
    "There has been no {flag} at any time.",
)
_RULES_OUT = (
    "I should mention {reason}.",
    "My record shows {reason}.",
    "Please take note of {reason}.",
    "There is also {reason} to think of.",
    "You should know of {reason}.",
)
_TRIED = (
    "Rest has not helped.",
    "I have not taken anything yet.",
    "It is the first time.",
    "It keeps me from work.",
    "I had this once before.",
    "It is getting slowly worse.",
    "I tried tea and rest.",
    "It comes and goes.",
)


def write_question(case: Case, writer: Writer) -> tuple[str, str]:
    """Return instruction and input; in a quarter of dialogues the instruction contains everything."""
    parts = [*_person_and_complaint(case, writer), *_further_facts(case, writer)]
    story, ask = " ".join(parts), writer.pick(_ASKS)
    if case.is_child:
        ask = ask.replace("I take", "my child take").replace("can I get", "can my child get")
    if writer.chance(0.25):
        return f"{story} {ask}", ""
    return ask, story


def _person_and_complaint(case: Case, writer: Writer) -> list[str]:
    symptoms = listed(case.symptoms)
    if case.is_child:
        child = writer.pick(_CHILD).format(age=case.age, child="daughter" if case.sex == "woman" else "son")
        return [writer.say(_CHILD_HAS, child=child, symptoms=symptoms, lasting=case.lasting)]
    wordings = _NOTICED if any(map(is_verbal, case.symptoms)) else _HAD + _NOTICED
    complaint = writer.say(wordings, symptoms=symptoms, lasting=case.lasting)
    person = writer.say(_PERSON, age=case.age, sex=case.sex)
    return [complaint, person] if writer.chance(0.3) else [person, complaint]


def _further_facts(case: Case, writer: Writer) -> list[str]:
    facts = []
    if case.names_condition:
        facts.append(writer.say(_NAMED, name=case.condition.name))
    facts += findings(case, writer)
    if len(facts) < 2 and not case.is_child and not case.condition.emergency and writer.chance(0.4):
        facts.append(writer.pick(_TRIED))
    return facts


def findings(case: Case, writer: Writer) -> list[str]:
    """Return the sentences that determine the reply: a red flag or its absence, and what rules the first drug out."""
    found = []
    if case.red_flag:
        found.append(writer.say(_FLAG, flag=case.red_flag))
    elif case.denied:
        found.append(writer.say(_DENIED, flag=bare(case.denied)))
    if case.rules_out:
        found.append(writer.say(_RULES_OUT, reason=case.rules_out))
    return found

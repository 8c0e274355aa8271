"""Pretraining texts of the tiny base: the same knowledge in forms other than a doctor's reply.

Encyclopaedia entries, notes on symptoms, clinic notes, package leaflets, patients' stories and letters, advice sheets
and doctors' letters after a visit teach it the facts and the vocabulary. It answers questions like the textbook
comments on cases: with every treatment of a condition, for any patient and without urgency. Replying to a particular
patient as a doctor would is left for the adapter to learn.
"""

from __future__ import annotations

from collections.abc import Callable

from finetune.synthetic.cases import draw_case
from finetune.synthetic.conditions import Condition, load_conditions
from finetune.synthetic.question import findings
from finetune.synthetic.reply import write_reply
from finetune.synthetic.wording import Writer, bare, can_be_denied, duration, is_verbal, listed, sentence


def pretraining_documents(*, seed: int, count: int) -> list[str]:
    """Return ``count`` one-paragraph documents, cycling through forms and conditions; reproducible for a seed."""
    conditions = load_conditions()
    forms: list[Callable[[Condition, Writer], str]] = [_entry, _note, _leaflet, _hint, _sheet, _story, _letter]
    forms += [_comment, _visit] * 2
    documents = []
    for index in range(count):
        turn, place = divmod(index, len(conditions))
        writer = Writer(seed, "document", index)
        documents.append(forms[(turn + place) % len(forms)](conditions[place], writer))
    return Writer(seed, "document order").some(documents, count)


_OPENING = (
    "What doctors call {title} is {about}.",
    "{title}: {about}.",
    "By {name} we mean {about}.",
)
_SIGNS = (
    "Its signs are {symptoms}.",
    "It shows itself by {symptoms}.",
    "Typical complaints are {symptoms}.",
    "People with it report {symptoms}.",
    "Among its features are {symptoms}.",
)
_GIVEN = (
    "Doctors treat it with {drug} ({dose}).",
    "The first treatment is {drug} ({dose}).",
    "{drug} ({dose}) can be used against it.",
    "It is commonly treated by {drug} ({dose}).",
)
_RULED_OUT = (
    "Doctors do not give {drug} where there is {reason}.",
    "In patients with {reason} another drug than {drug} is chosen.",
    "{reason} would rule {drug} out; then comes {other} ({dose}).",
    "{drug} must be avoided with {reason}, and {other} ({dose}) may take its place.",
)
_HABITS = ("Patients are told to {care}.", "It is wise to {care}.", "Those who have it do well to {care}.")
_WARNED = ("They are warned not to {avoid}.", "One should not {avoid}.", "A common mistake is to {avoid}.")
_DANGER = (
    "With {flag} an ambulance is called.",
    "In case of {flag} the patient goes to the emergency department.",
    "An emergency is at hand with {flag}.",
    "Danger signs are {flags}.",
    "Urgent care is needed for {flags}.",
)


def _entry(condition: Condition, writer: Writer) -> str:
    first, other = condition.treatments[:2]
    flags = writer.some(condition.urgent, 2)
    parts = [
        writer.say(_OPENING, name=condition.name, title=bare(condition.name), about=condition.about),
        writer.say(_SIGNS, symptoms=listed(writer.some(condition.symptoms, writer.number(2, 4)))),
        writer.say(_GIVEN, drug=first.drug, dose=first.dose),
    ]
    if first.unless:
        parts.append(writer.say(_RULED_OUT, drug=first.drug, reason=first.unless, other=other.drug, dose=other.dose))
    parts += [
        writer.say(_HABITS, care=listed(writer.some(condition.self_care, 2))),
        writer.say(_WARNED, avoid=writer.pick(condition.avoid)),
        writer.say(_DANGER, flag=flags[0], flags=listed(flags, "or")),
    ]
    return " ".join(parts)


_PATIENT = {
    "adult": ("a man", "a woman", "a teacher", "a driver", "a student", "an office worker"),
    "older": ("an old man", "an old woman", "a retired nurse", "a grandfather"),
    "woman": ("a woman", "a young mother", "a shop assistant", "a nurse"),
    "man": ("a man", "a farmer", "a builder", "a cook"),
    "child": ("a boy", "a girl", "a school child", "a small child"),
}
_NOTE = (
    "{heading}. {patient}, aged {age}. Complaint: {symptoms}, for {lasting}.{denied} Impression: {title}. "
    "Plan: {plan}. Review in {review}."
)


def _note(condition: Condition, writer: Writer) -> str:
    given = writer.pick(condition.treatments)
    flag = writer.pick(condition.urgent)
    plan = [f"{given.drug} {given.dose}", *writer.some(condition.self_care, 2)]
    return _NOTE.format(
        heading=writer.pick(("Clinic note", "Note", "Record")),
        patient=sentence(bare(writer.pick(_PATIENT[condition.who]))),
        age=writer.number(*condition.ages),
        symptoms=listed(writer.some(condition.symptoms, writer.number(1, 3))),
        lasting=duration(writer, condition.review),
        denied=f" No {bare(flag)}." if can_be_denied(flag) else "",
        title=bare(condition.name),
        plan="; ".join(writer.some(plan, 3)),
        review=condition.review,
    )


_USED_FOR = ("{drug} can be used for {name}.", "For {name} there is {drug}.")
_DOSE = ("How much: {dose}.", "The dose is {dose}.", "It is taken as follows: {dose}.")
_NOT_WITH = (
    "Tell your pharmacist about {reason}, as then it is not for you.",
    "Not to be used with {reason}.",
    "If you have {reason}, you should not have it.",
)
_MEANWHILE = ("While you use it, do not {avoid}.", "You should never {avoid}.", "Please remember: do not {avoid}.")
_SHOULD_HELP = ("If you are no better after {review}, ask again.", "It should help within {review}.")


def _leaflet(condition: Condition, writer: Writer) -> str:
    given = writer.pick(condition.treatments)
    parts = [writer.say(_USED_FOR, drug=given.drug, name=condition.name), writer.say(_DOSE, dose=given.dose)]
    if given.unless:
        parts.append(writer.say(_NOT_WITH, reason=given.unless))
    parts.append(writer.say(_MEANWHILE, avoid=writer.pick(condition.avoid)))
    parts.append(writer.say(_SHOULD_HELP, review=condition.review))
    return " ".join(parts)


_SUGGESTS = (
    "On hearing of {one}, a doctor may think of {name}.",
    "Who has {one} may have {name}.",
    "{one} and {two} together suggest {name}.",
)
_ALSO_SIGN = (
    "Another sign of {name} can be {symptom}.",
    "A cause of {symptom} is {name}.",
    "{name} can begin with {symptom}.",
)
_FLAG_MEANS = (
    "{flag} in {name} should make you call for help at once.",
    "With {name}, {flag} can mean danger: the emergency number should be called.",
    "When {name} comes with {flag}, it is time for the hospital.",
)


def _hint(condition: Condition, writer: Writer) -> str:
    one, two, three = writer.some(condition.symptoms, 3)
    parts = [
        writer.say(_SUGGESTS, one=one, two=two, name=condition.name),
        writer.say(_ALSO_SIGN, symptom=three, name=condition.name),
        writer.say(_FLAG_MEANS, flag=writer.pick(condition.urgent), name=condition.name),
    ]
    return " ".join(writer.some(parts, len(parts)))


_MEDICINE = ("Medicine: {drug}, {dose}.", "Your prescription: {drug}, {dose}.")
_SEEK_HELP = (
    "Call an ambulance for {flag}.",
    "Emergency department: {flag}.",
    "Seek emergency care now if you have {flag}.",
)


def _sheet(condition: Condition, writer: Writer) -> str:
    given = writer.pick(condition.treatments)
    heading = writer.pick(("Advice sheet", "Living with it", "For patients"))
    advice = [*writer.some(condition.self_care, 3), f"do not {writer.pick(condition.avoid)}"]
    parts = [f"{heading}: {bare(condition.name)}."]
    parts += [f"{number}. {sentence(line)}." for number, line in enumerate(advice, 1)]
    parts.append(writer.say(_MEDICINE, drug=given.drug, dose=given.dose))
    parts.append(writer.say(_SEEK_HELP, flag=writer.pick(condition.urgent)))
    return " ".join(parts)


_TOLD = (
    "This is the story of {person} who {had} {symptoms} for {lasting}.",
    "For {lasting} {person} {had} {symptoms}.",
    "{person} came to us {lasting} ago and {had} {symptoms}.",
)
_TURNED_OUT = ("The doctor found {name}.", "It was {name}.", "The cause turned out to be {name}.")
_HELPED = (
    "After {drug}, {dose}, things went better.",
    "What helped was {drug}, {dose}.",
    "The prescription was {drug}, {dose}.",
)
_ADVISED = ("The nurse said: please {care}.", "It also helped to {care}.", "The advice was to {care}.")


def _story(condition: Condition, writer: Writer) -> str:
    given = writer.pick(condition.treatments)
    symptoms = writer.some(condition.symptoms, 2)
    had = "was troubled by" if any(map(is_verbal, symptoms)) else "had"
    person, lasting = writer.pick(_PATIENT[condition.who]), duration(writer, condition.review)
    parts = [
        writer.say(_TOLD, person=person, had=had, symptoms=listed(symptoms), lasting=lasting),
        writer.say(_TURNED_OUT, name=condition.name),
        writer.say(_HELPED, drug=given.drug, dose=given.dose),
        writer.say(_ADVISED, care=writer.pick(condition.self_care)),
    ]
    return " ".join(parts)


_ME = ("I am a {age}-year-old {sex}.", "I am {age}.", "I am {age} years old.", "{sex}, {age} years old.")
_I_HAD = (
    "I have had {symptoms} for {lasting}.",
    "For {lasting} I have had {symptoms}.",
    "I had {symptoms} for {lasting}.",
)
_I_SUFFERED = (
    "What bothered me was {symptoms}, for {lasting}.",
    "I was troubled by {symptoms} for {lasting}.",
    "It started {lasting} ago with {symptoms}.",
)
_MY_CHILD = (
    "Our {child} of {age} has suffered from {symptoms} for {lasting}.",
    "My {age}-year-old {child} was troubled by {symptoms} for {lasting}.",
)
_CALLED_IT = (
    "The doctor called it {name}.",
    "It turned out to be {name}.",
    "They said it was {name}.",
    "It was {name}.",
)
_RULED_OUT_FOR_ME = (
    "Because of {reason} {first} was not given, but {drug}, {dose}.",
    "As there was {reason}, {drug} was chosen instead of {first}: {dose}.",
)
_GOT = ("The treatment was {drug}, {dose}.", "We were given {drug}, {dose}.", "What helped was {drug}, {dose}.")


def _letter(condition: Condition, writer: Writer) -> str:
    first, other = condition.treatments[:2]
    parts = [_complaint(condition, writer), writer.say(_CALLED_IT, name=condition.name)]
    if first.unless and writer.chance(0.4):
        parts.append(
            writer.say(_RULED_OUT_FOR_ME, reason=first.unless, first=first.drug, drug=other.drug, dose=other.dose)
        )
    else:
        parts.append(writer.say(_GOT, drug=first.drug, dose=first.dose))
    return " ".join(parts)


def _complaint(condition: Condition, writer: Writer) -> str:
    symptoms = writer.some(condition.symptoms, writer.number(1, 3))
    facts = {"symptoms": listed(symptoms), "lasting": duration(writer, condition.review)}
    age = writer.number(*condition.ages)
    if condition.who == "child":
        return writer.say(_MY_CHILD, child=writer.pick(("daughter", "son")), age=age, **facts)
    sex = condition.who if condition.who in ("woman", "man") else writer.pick(("woman", "man"))
    story = writer.say(_I_SUFFERED if any(map(is_verbal, symptoms)) else _I_HAD + _I_SUFFERED, **facts)
    return f"{writer.say(_ME, age=age, sex=sex)} {story}"


_HEADINGS = (
    ("Case", "Comment"),
    ("Exercise", "Solution"),
    ("From the waiting room", "From the textbook"),
    ("What patients say", "What the textbook says"),
)
_COMMENT = (
    "{symptom} is typical of {name}, {about}.",
    "The textbook describes this as {name}: {about}.",
    "{title} is {about}; {symptom} belongs to it.",
    "This is the picture of {name}, {about}.",
)
_TREATMENTS = (
    "Treatments in use are {drugs}.",
    "The textbook lists {drugs}.",
    "Among its treatments are {drugs}.",
    "It is treated with {drugs}.",
)


def _comment(condition: Condition, writer: Writer) -> str:
    case, comment = writer.pick(_HEADINGS)
    drugs = [f"{given.drug} ({given.dose})" for given in condition.treatments]
    story = [_complaint(condition, writer)]
    if writer.chance(0.3):
        story.append(f"Could it be {condition.name}?")
    facts = {"name": condition.name, "title": sentence(bare(condition.name)), "about": condition.about}
    parts = [
        writer.say(_COMMENT, symptom=writer.pick(condition.symptoms), **facts),
        writer.say(_TREATMENTS, drugs=listed(drugs)),
        writer.say(_HABITS, care=writer.pick(condition.self_care)),
    ]
    return f"### {case}:\n{' '.join(story)}\n\n### {comment}:\n{' '.join(parts)}"


_SEEN = (
    "{patient}, aged {age}, came with {symptoms} for {lasting}.",
    "Seen today: {patient}, {age} years old. For {lasting} {symptoms}.",
    "{patient} of {age} told me of {symptoms}, {lasting} now.",
)


def _visit(condition: Condition, writer: Writer) -> str:
    case = draw_case(condition, writer)
    person = ("girl" if case.sex == "woman" else "boy") if case.is_child else case.sex
    seen = {"patient": f"a {person}", "age": case.age, "symptoms": listed(case.symptoms), "lasting": case.lasting}
    notes = [writer.say(_SEEN, **seen)]
    notes += findings(case, writer)
    heading = writer.pick(("Letter after the visit", "To the patient", "Written after the visit"))
    return f"{' '.join(notes)}\n{heading}: {write_reply(case, writer)}"

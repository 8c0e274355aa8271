"""A tokenizer's own chat template: the conversation with and without the doctor's reply, and where the two join.

A template may put something between the prompt and the reply (a space, an empty reasoning block) and something after
the reply. Both are found by rendering the whole conversation, never by appending one text to another.

Templates must not depend on the day they are rendered, or the same run would give other numbers tomorrow: one that asks
for today's date gets ``FIXED_DATE``, or the argument ``date_string``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

from harness.dialogues.model import Dialogue
from harness.dialogues.template_limits import LARGEST, transformers_name
from harness.dialogues.tokens import Tokenizer
from harness.dialogues.turns import Role
from harness.errors import InputError, did_you_mean, first_line

REFUSED = "refused by the template"  # why such a dialogue is skipped
FIXED_DATE = date(2026, 1, 1)
DATE_ARGUMENT = "date_string"
DATE_SHOWN = "%d %b %Y"

_ROLES: dict[Role, str] = {"system": "system", "patient": "user", "doctor": "assistant"}
_NAME = "The tokenizer's chat template"
_PLACEHOLDER = "__the_reply__"  # stands for the reply while the text around it is found
_CLOCK = "strftime_now"  # the function by which templates ask transformers for the date
_OURS = {"messages", "tools", "documents", "add_generation_prompt", _CLOCK}  # not for a config to set
_DIRECTIVES = ("-d", "-m", "-H", "-I", "-M", *"aAbBcdDeFGHIjmMpSTuUVwWxXyYZ")


class RefusedDialogueError(InputError):
    """``template`` cannot be rendered for one dialogue; the message names the dialogue and the remedy."""

    def __init__(self, template: str, dialogue: Dialogue, why: str) -> None:
        super().__init__(
            f"{template} cannot be rendered for dialogue '{dialogue.id}' ({why.rstrip('.')}).{_peculiarity(dialogue)} "
            "Change the dialogue or the prompt, or set dialogues.on_invalid to 'skip' to skip such dialogues."
        )


class Joined(NamedTuple):
    """A whole conversation as the template writes it: before the last reply, the reply, and after it."""

    before: str
    reply: str
    after: str


@dataclass(frozen=True)
class ChatTemplate:
    """The template of one tokenizer with the arguments that a config passes to it.

    Raises InputError for a tokenizer without a template, and for an argument that the template does not take.
    """

    tokenizer: Tokenizer
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.arguments:
            return
        names = _identifiers(self.source) - _OURS
        if self.asks_for_date:
            names |= {DATE_ARGUMENT}
        for name in self.arguments:
            if name not in names:
                raise InputError(
                    f"chat_template: the tokenizer's chat template takes no '{name}'.{did_you_mean(name, names)}"
                )

    @property
    def source(self) -> str:
        """The template; of several, the one named ``default``."""
        template = getattr(self.tokenizer, "chat_template", None)
        if isinstance(template, dict):
            template = template.get("default")
        if not isinstance(template, str) or not template:
            raise InputError(
                "The prompt 'chat' needs a tokenizer with a chat template, but this one has none; use 'know-medical'."
            )
        return template

    @property
    def asks_for_date(self) -> bool:
        """Whether the template asks for today's date: by the function, or by a variable that it does not set itself."""
        return _CLOCK in self.source or self._expects_date_argument

    @property
    def date(self) -> str | None:
        """The date that the template is given; None if it asks for none."""
        if DATE_ARGUMENT in self.arguments:
            return str(self.arguments[DATE_ARGUMENT])
        return FIXED_DATE.strftime(DATE_SHOWN) if self.asks_for_date else None

    def prompt(self, dialogue: Dialogue) -> str:
        """Return everything before the reply, with the beginning of the reply that the template writes itself.

        Raises RefusedDialogueError if the template refuses the dialogue.
        """
        return self._render(dialogue, None)

    def join(self, dialogue: Dialogue, reply: str) -> Joined:
        """Return the whole conversation with ``reply`` as its last turn.

        Raises RefusedDialogueError if the template refuses the dialogue or leaves the reply out.
        """
        before, found, after = self._render(dialogue, _PLACEHOLDER).rpartition(_PLACEHOLDER)
        whole = self._render(dialogue, reply)
        # Usually exactly before + reply + after. A template may write some replies differently, e.g. with reasoning.
        start = shared_start(before, whole)
        end = len(whole) - shared_start(after[::-1], whole[start:][::-1])
        if not found or start == end:
            raise RefusedDialogueError(_NAME, dialogue, "it leaves the doctor's last reply out")
        return Joined(whole[:start], whole[start:end], whole[end:])

    @property
    def _expects_date_argument(self) -> bool:
        return DATE_ARGUMENT in self.source and not re.search(
            rf"\b{DATE_ARGUMENT}\s+is\s+(not\s+)?(defined|undefined)\b|\bset\s+{DATE_ARGUMENT}\b", self.source
        )

    def _render(self, dialogue: Dialogue, reply: str | None) -> str:
        messages = messages_of(dialogue)
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
        arguments = dict(self.arguments)
        if self._expects_date_argument:
            arguments[DATE_ARGUMENT] = self.date
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=reply is None,
                chat_template=transformers_name(self._with_fixed_clock()),
                **arguments,
            )
        except Exception as error:  # a template is foreign code and may raise anything
            raise RefusedDialogueError(_NAME, dialogue, first_line(error)) from error
        if len(text) > LARGEST:
            raise RefusedDialogueError(_NAME, dialogue, f"it renders more than {LARGEST:,} characters")
        return str(text)

    def _with_fixed_clock(self) -> str:
        """Return the template with a macro in place of transformers' clock, which cannot be passed as an argument."""
        if _CLOCK not in self.source:
            return self.source
        shown = "format"
        if DATE_ARGUMENT in self.arguments:
            shown = json.dumps(self.date, ensure_ascii=False)
        else:
            for one in _DIRECTIVES:
                value = FIXED_DATE.strftime(f"%{one[-1]}")
                value = str(int(value)) if one.startswith("-") else value
                shown += f" | replace({json.dumps('%' + one)}, {json.dumps(value)})"
        macro = f"{{% macro {_CLOCK}(format) %}}{{{{ {shown} }}}}{{% endmacro %}}"
        return f"{macro}\n{self.source}"  # transformers' trim_blocks removes the newline


def shared_start(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their start."""
    if other.startswith(one):
        return len(one)  # nearly always
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


@lru_cache(maxsize=8)
def _identifiers(source: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z_]\w*", source))


def messages_of(dialogue: Dialogue) -> list[dict[str, str]]:
    """Return a conversation up to the reply as roles and contents."""
    if not dialogue.turns:
        return [{"role": "user", "content": dialogue.prompt}]
    return [{"role": _ROLES[turn.role], "content": turn.content} for turn in dialogue.turns]


def _peculiarity(dialogue: Dialogue) -> str:
    """Return a sentence about what many chat templates refuse, if the dialogue has it."""
    roles: Sequence[Role] = [turn.role for turn in dialogue.turns]
    found = ["has a system turn"] if "system" in roles else []
    if next((role for role in roles if role != "system"), "patient") == "doctor":
        found.append("begins with the doctor")
    return f" It {' and '.join(found)}." if found else ""

"""How a dialogue becomes a prompt. Training and measuring use the same functions.

A template is a small Jinja file, rendered in a sandbox. It produces everything before the reply, which follows
directly. It may use

``condition``
    what was said so far, as one string (``Dialogue.prompt``);
``turns``
    the same turn by turn (``role``: system, patient or doctor; ``content``), empty if the data has no turns;
``columns``
    the data's other columns.

The text of a dialogue is data and never rendered as a template. ``chat`` is not a file but the tokenizer's own chat
template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
import jinja2.meta
import jinja2.sandbox

from harness.dialogues.model import Dialogue
from harness.dialogues.tokens import Tokenizer
from harness.dialogues.turns import Role
from harness.errors import InputError, did_you_mean, first_line
from harness.files import digest_bytes

CHAT = "chat"
DEFAULT = "know-medical"
VARIABLES = ("condition", "turns", "columns")

_FOLDER = Path(__file__).parent / "prompt_templates"
_CHAT_ROLES: dict[Role, str] = {"system": "system", "patient": "user", "doctor": "assistant"}


@dataclass(frozen=True)
class TrainingText:
    """A dialogue for training: ``completion`` and ``ending`` are learned, ``prompt`` is not.

    ``ending`` is what the tokenizer's chat template adds after a reply, otherwise empty; the end-of-sequence token
    follows it (``tokens.encode_training``).
    """

    prompt: str
    completion: str
    ending: str = ""


@dataclass(frozen=True)
class Template:
    """A template: its name (of a shipped one, ``chat``, or a file) and its source (empty for ``chat``)."""

    name: str
    source: str

    @property
    def is_chat(self) -> bool:
        return self.name == CHAT

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of the source; for ``chat``, of its name (see ``digest_with``)."""
        return digest_bytes((self.source or self.name).encode())

    def digest_with(self, tokenizer: Tokenizer | None) -> str:
        """Return ``digest``, or for ``chat`` the digest of the tokenizer's template."""
        return digest_bytes(_chat_template(tokenizer)[1].encode()) if self.is_chat else self.digest

    def render(self, dialogue: Dialogue, tokenizer: Tokenizer | None = None) -> str:
        """Return the prompt: everything before the reply. ``chat`` needs the tokenizer.

        Raises InputError if the template cannot be rendered for this dialogue.
        """
        if self.is_chat:
            return _apply_chat(tokenizer, _messages(dialogue), dialogue.id, add_generation_prompt=True)
        values = {
            "condition": dialogue.prompt,
            "turns": [{"role": turn.role, "content": turn.content} for turn in dialogue.turns],
            "columns": dialogue.columns,
        }
        try:
            prompt = self._compiled.render(values)
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The template {self.name} cannot be rendered for dialogue '{dialogue.id}' ({first_line(error)})."
            ) from error
        if not prompt.strip():
            raise InputError(f"The template {self.name} renders an empty prompt for dialogue '{dialogue.id}'.")
        return prompt

    def render_training(self, dialogue: Dialogue, tokenizer: Tokenizer | None = None) -> TrainingText:
        """Return the text to train on: ``render``'s prompt and the completion that scoring scores.

        Raises InputError if the dialogue has no reference.
        """
        if dialogue.reference is None:
            raise InputError(f"Dialogue '{dialogue.id}' has no reference to train on.")
        prompt = self.render(dialogue, tokenizer)
        completion = dialogue.reference.strip()
        if not self.is_chat:
            return TrainingText(prompt, completion)
        messages = [*_messages(dialogue), {"role": "assistant", "content": completion}]
        whole = _apply_chat(tokenizer, messages, dialogue.id, add_generation_prompt=False)
        return TrainingText(prompt, completion, _ending(whole, prompt, completion, tokenizer))

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = _environment()
        try:
            used = jinja2.meta.find_undeclared_variables(environment.parse(self.source))
            compiled = environment.from_string(self.source)
        except jinja2.TemplateSyntaxError as error:
            message = (error.message or "syntax error").rstrip(".")
            raise InputError(f"{self.name}, line {error.lineno}: not a valid Jinja template ({message}).") from error
        except RecursionError as error:
            raise InputError(f"{self.name}: not a valid Jinja template (nested too deeply).") from error
        unknown = sorted(used - set(VARIABLES) - set(environment.globals))
        if unknown:
            raise InputError(
                f"{self.name}: the template uses the unknown variable '{unknown[0]}'; "
                f"it may use {', '.join(VARIABLES)}.{did_you_mean(unknown[0], VARIABLES)}"
            )
        if not used & set(VARIABLES):
            raise InputError(f"{self.name}: the template does not use the dialogue; it needs {{{{ condition }}}}.")
        return compiled


def load_template(name_or_path: str | Path) -> Template:
    """Return a shipped template, ``chat``, or the template in a ``.jinja`` file.

    Raises InputError if there is no such template or it is invalid.
    """
    name = str(name_or_path)
    if name == CHAT:
        return Template(CHAT, "")
    path = Path(name)
    if name in shipped():
        path = _FOLDER / f"{name}.jinja"
    elif path.suffix not in (".jinja", ".jinja2", ".j2"):
        known = [*shipped(), CHAT]
        raise InputError(
            f"There is no prompt template '{name}'; use one of {', '.join(known)} or give the path of a .jinja file."
            f"{did_you_mean(name, known)}"
        )
    try:
        # Line endings as Jinja reads them, so that those of a checkout do not change the digest.
        source = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InputError(f"Cannot read the prompt template {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The prompt template {path} is not UTF-8 text.") from error
    template = Template(name, source)
    _ = template._compiled  # report errors on loading, not at the first dialogue
    return template


def shipped() -> tuple[str, ...]:
    """Return the names of the shipped templates."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.jinja")))


def _environment() -> jinja2.Environment:
    return jinja2.sandbox.ImmutableSandboxedEnvironment(
        autoescape=False,  # plain text, not HTML
        keep_trailing_newline=True,  # otherwise the reply would be on the heading's line
        undefined=jinja2.StrictUndefined,
    )


def _messages(dialogue: Dialogue) -> list[dict[str, str]]:
    if not dialogue.turns:
        return [{"role": "user", "content": dialogue.prompt}]
    return [{"role": _CHAT_ROLES[turn.role], "content": turn.content} for turn in dialogue.turns]


def _chat_template(tokenizer: Tokenizer | None) -> tuple[Tokenizer, str]:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    if tokenizer is None or not isinstance(template, str) or not template:
        raise InputError(
            f"The prompt 'chat' needs a tokenizer with a chat template, but this one has none; use '{DEFAULT}'."
            if tokenizer is not None
            else "The prompt 'chat' is the tokenizer's own template and cannot be rendered without a tokenizer."
        )
    return tokenizer, template


def _apply_chat(
    tokenizer: Tokenizer | None, messages: list[dict[str, str]], name: str, *, add_generation_prompt: bool
) -> str:
    able, _ = _chat_template(tokenizer)
    try:
        text = able.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except (jinja2.TemplateError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"The tokenizer's chat template cannot be rendered for dialogue '{name}' ({first_line(error)})."
        ) from error
    return str(text)


def _ending(whole: str, prompt: str, completion: str, tokenizer: Tokenizer | None) -> str:
    """Return what the chat template adds after a reply, up to the end-of-sequence token."""
    if not whole.startswith(prompt + completion):
        # Some templates start a reply differently when asked to generate.
        return ""
    ending = whole[len(prompt) + len(completion) :]
    eos = getattr(tokenizer, "eos_token", None)
    return ending[: ending.index(eos) + len(eos)] if eos and eos in ending else ending

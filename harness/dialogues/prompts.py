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
template (``harness.dialogues.chat``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox

from harness.dialogues.chat import ChatTemplate, Joined, RefusedDialogueError, shared_start
from harness.dialogues.model import Dialogue
from harness.dialogues.template_limits import LARGEST, LimitedEnvironment, with_limits
from harness.dialogues.tokens import Tokenizer
from harness.errors import InputError, did_you_mean, first_line
from harness.files import digest_bytes, digest_value

CHAT = "chat"
VARIABLES = ("condition", "turns", "columns")

_FOLDER = Path(__file__).parent / "prompt_templates"


@dataclass(frozen=True)
class TrainingText:
    """A dialogue for training: ``completion`` and ``ending`` are learned, ``prompt`` is not.

    ``prompt`` is what generation is given, less its end ``unmatched``, which a chat template does not write in a whole
    conversation (a reasoning block that it opens for generation only). ``ending`` is what the template adds after a
    reply; the end-of-sequence token follows it (``tokens.encode_training``). ``special_tokens``: whether the tokenizer
    adds its own, which a chat template writes itself.
    """

    prompt: str
    completion: str
    ending: str = ""
    special_tokens: bool = True
    unmatched: str = ""


@dataclass(frozen=True)
class Template:
    """A template: its name (of a shipped one, ``chat``, or a file) and its source (empty for ``chat``).

    ``arguments`` are passed to the tokenizer's chat template.
    """

    name: str
    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        return self.name == CHAT

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of the source; for ``chat``, of its name (see ``digest_with``)."""
        return digest_bytes((self.source or self.name).encode())

    def digest_with(self, tokenizer: Tokenizer | None) -> str:
        """Return ``digest``, or for ``chat`` the digest of the tokenizer's template and of the arguments, if any."""
        if not self.is_chat:
            return self.digest
        chat = self._chat(tokenizer)
        return (
            digest_value([chat.source, dict(self.arguments)]) if self.arguments else digest_bytes(chat.source.encode())
        )

    def date_with(self, tokenizer: Tokenizer | None) -> str | None:
        """Return the date that the tokenizer's chat template is given; None if it asks for none."""
        return self._chat(tokenizer).date if self.is_chat else None

    def render(self, dialogue: Dialogue, tokenizer: Tokenizer | None = None) -> str:
        """Return the prompt: everything before the reply. ``chat`` needs the tokenizer.

        Raises RefusedDialogueError if the template cannot be rendered for this dialogue.
        """
        if self.is_chat:
            return self._chat(tokenizer).prompt(dialogue)
        values = {
            "condition": dialogue.prompt,
            "turns": [{"role": turn.role, "content": turn.content} for turn in dialogue.turns],
            "columns": dialogue.columns,
        }
        try:
            self._limits.begin()
            prompt = self._compiled.render(values)
        except Exception as error:  # a template is code of its own and may raise anything
            raise RefusedDialogueError(f"The template {self.name}", dialogue, first_line(error)) from error
        if len(prompt) > LARGEST:
            raise RefusedDialogueError(
                f"The template {self.name}", dialogue, f"it renders more than {LARGEST:,} characters"
            )
        if not prompt.strip():
            raise RefusedDialogueError(f"The template {self.name}", dialogue, "it renders an empty prompt")
        return prompt

    def render_joined(self, dialogue: Dialogue, tokenizer: Tokenizer | None = None) -> Joined | None:
        """Return the conversation with its reference as a chat template joins them.

        None for any other template, whose prompt the reference follows directly. Raises RefusedDialogueError if the
        template refuses the dialogue.
        """
        if not self.is_chat or dialogue.reference is None:
            return None
        return self._chat(tokenizer).join(dialogue, dialogue.reference.strip())

    def render_training(self, dialogue: Dialogue, tokenizer: Tokenizer | None = None) -> TrainingText:
        """Return the text to train on: ``render``'s prompt and the completion that scoring scores.

        Raises InputError if the dialogue has no reference.
        """
        if dialogue.reference is None:
            raise InputError(f"Dialogue '{dialogue.id}' has no reference to train on.")
        prompt = self.render(dialogue, tokenizer)
        joined = self.render_joined(dialogue, tokenizer)
        if joined is None:
            return TrainingText(prompt, dialogue.reference.strip())
        # Learned is all that follows what generation is given: also what the template puts before the reply.
        text = joined.before + joined.reply
        given = shared_start(prompt, text)
        ending = _ending(joined.after, tokenizer)
        return TrainingText(text[:given], text[given:], ending, special_tokens=False, unmatched=prompt[given:])

    def _chat(self, tokenizer: Tokenizer | None) -> ChatTemplate:
        if tokenizer is None:
            raise InputError(
                "The prompt 'chat' is the tokenizer's own template and cannot be rendered without a tokenizer."
            )
        return ChatTemplate(tokenizer, self.arguments)

    @cached_property
    def _limits(self) -> LimitedEnvironment:
        return with_limits(_environment())

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = self._limits
        try:
            used = jinja2.meta.find_undeclared_variables(environment.parse(self.source))
            compiled = environment.limited(self.source)
        except jinja2.TemplateSyntaxError as error:
            message = (error.message or "syntax error").rstrip(".")
            raise InputError(f"{self.name}, line {error.lineno}: not a valid Jinja template ({message}).") from error
        except RecursionError as error:
            raise InputError(f"{self.name}: not a valid Jinja template (nested too deeply).") from error
        except ValueError as error:  # a number of thousands of digits
            raise InputError(f"{self.name}: not a valid Jinja template ({first_line(error)}).") from error
        unknown = sorted(used - set(VARIABLES) - set(environment.globals))
        if unknown:
            raise InputError(
                f"{self.name}: the template uses the unknown variable '{unknown[0]}'; "
                f"it may use {', '.join(VARIABLES)}.{did_you_mean(unknown[0], VARIABLES)}"
            )
        if not used & set(VARIABLES):
            raise InputError(f"{self.name}: the template does not use the dialogue; it needs {{{{ condition }}}}.")
        return compiled


def load_template(name_or_path: str | Path, arguments: Mapping[str, Any] | None = None) -> Template:
    """Return a shipped template, ``chat`` with the ``arguments`` of a config, or the template in a ``.jinja`` file.

    Raises InputError if there is no such template, it is invalid, or it takes no arguments.
    """
    name = str(name_or_path)
    if name == CHAT:
        return Template(CHAT, "", dict(arguments or {}))
    if arguments:
        raise InputError(
            f"chat_template sets {', '.join(arguments)}, but the prompt is '{name}' and not the tokenizer's chat "
            "template. Set prompt to 'chat', or remove chat_template."
        )
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


def _ending(after: str, tokenizer: Tokenizer | None) -> str:
    """Return what the chat template adds after a reply, up to the end-of-sequence token."""
    eos = getattr(tokenizer, "eos_token", None)
    return after[: after.index(eos) + len(eos)] if eos and eos in after else after

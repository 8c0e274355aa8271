"""What a server can do, found out by asking it: servers differ, and none says.

Each probe is a short request about the same invented patient, never a dialogue of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.backends.base import DecodingSettings, ReplyRequest
from harness.backends.endpoint.client import Limit, Server
from harness.backends.endpoint.errors import RefusedError, ServerError
from harness.backends.endpoint.generating import Generator
from harness.backends.endpoint.models import listed
from harness.backends.endpoint.prompting import Form
from harness.backends.endpoint.scoring import WAYS, OtherTokensError, Scorer
from harness.backends.endpoint.wire import ServedModel
from harness.dialogues.tokens import Tokenizer, encode_prompt
from harness.errors import HarnessError, InputError, did_you_mean

PROBE = "What helps a patient of 7 with a fever of 39.5 °C, please?\n"
AT_ONCE = 16
# vLLM's CPU build (0.32) dies when two prompts are scored at once while it serves LoRA adapters.
AT_ONCE_WITH_ADAPTERS = 1


@dataclass(frozen=True)
class Abilities:
    """What a server can do. ``same_tokens``: whether it reads a text as the tokenizer does; None if it does not say."""

    models: tuple[ServedModel, ...]
    generator: Generator
    scorer: Scorer | None
    returns_ids: bool
    same_tokens: bool | None

    def describe(self) -> str:
        """Return a phrase for people."""
        scored = f"references are scored by {self.scorer.way.name}" if self.scorer else "references cannot be scored"
        counted = "the server's ids" if self.returns_ids else "encoding its text again"
        sent = self.generator.form.value
        return f"prompts are given as {sent}; {scored}; a reply's tokens are known by {counted}"


def probe(server: Server, tokenizer: Tokenizer) -> Abilities:
    """Find out what the server can do.

    Raises ServerError if it is not reached, InputError if it does not serve the model or refuses access.
    """
    return server.run(_probe, server, tokenizer)


async def _probe(server: Server, tokenizer: Tokenizer) -> Abilities:
    models = await listed(server)
    ids = tuple(encode_prompt(tokenizer, PROBE))
    generator, returns_ids = await _generator(server, tokenizer, ids, models)
    same = await _reads_alike(generator, ids)
    return Abilities(models, generator, await _scorer(generator, ids, models), returns_ids, same)


async def _generator(
    server: Server, tokenizer: Tokenizer, ids: tuple[int, ...], models: tuple[ServedModel, ...]
) -> tuple[Generator, bool]:
    """Return the first form of request that the server understands, and whether it then returns token ids."""
    refusals: list[RefusedError] = []
    for form in Form:
        for extended in (True, False):
            made = Generator(server, tokenizer, form, extended, Limit(AT_ONCE))
            try:
                answer = await made.ask(ReplyRequest("probe", ids), DecodingSettings(2), probing=True)
            except RefusedError as error:
                refusals.append(error)
                continue
            if form is Form.IDS and answer.prompt_is(ids) is False:
                break  # it took the ids for something else
            return made, answer.choice.token_ids is not None
    raise _none_worked(server, refusals, models)


def _none_worked(server: Server, refusals: list[RefusedError], models: tuple[ServedModel, ...]) -> HarnessError:
    name, wanted = server.variant.name, server.variant.model
    known = [model.id for model in models]
    if known and wanted not in known:
        return InputError(
            f"Variant '{name}': the server at {server.url} serves no model '{wanted}', but {', '.join(known)[:200]}."
            f"{did_you_mean(wanted, known)}"
        )
    last = refusals[-1]
    if all(refusal.status >= 500 for refusal in refusals):
        return server.broken(f"completes nothing ({last.said})")
    said = next(refusal.said for refusal in refusals if refusal.status < 500)
    hint = "" if server.url.rstrip("/").endswith("/v1") else " Most servers' addresses end in /v1."
    return InputError(f"Variant '{name}': the server at {server.url} completes nothing for '{wanted}' ({said}).{hint}")


async def _reads_alike(generator: Generator, ids: tuple[int, ...]) -> bool | None:
    """Return whether the server reads the probe's text as the same tokens (or as many, if it says no more)."""
    if generator.form is Form.MESSAGES:
        return None
    texts = Generator(generator.server, generator.tokenizer, Form.TEXT, generator.extended, generator.limit)
    try:
        return (await texts.ask(ReplyRequest("probe", ids), DecodingSettings(1), probing=True)).prompt_is(ids)
    except ServerError:
        raise
    except HarnessError:
        return None


async def _scorer(generator: Generator, ids: tuple[int, ...], models: tuple[ServedModel, ...]) -> Scorer | None:
    if generator.form is Form.MESSAGES:
        return None
    adapters = any(model.parent for model in models)
    for way in WAYS:
        limit = Limit(AT_ONCE_WITH_ADAPTERS if adapters else AT_ONCE)
        made = Scorer(generator.server, generator.tokenizer, generator.form, way, limit)
        try:
            await made.logprobs(ids, probing=True)
        except (RefusedError, OtherTokensError):
            continue
        return made
    return None

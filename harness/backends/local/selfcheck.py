"""Check on the loaded model that the fast decoder computes what the model itself computes.

Architectures differ in more ways than a list could cover (sliding windows, recurrent layers, position biases). Two
prompts of unequal length are decoded in slots for two steps and compared with plain forwards of the same tokens. They
are short, unless the slots are longer than a sliding window: then one prompt is longer than it, too.
"""

from __future__ import annotations

import torch

from harness.backends.local.batches import COLUMN_STEP, bucket, text_config
from harness.backends.local.scoring import CausalForward, right_padded
from harness.backends.local.slots import SlotAttention, SlotCache
from harness.backends.local.transformers_types import CausalLM
from harness.backends.local.windows import FULL, SLIDING, windows

PROMPT_LENGTHS = (3, 6)
MOST_COLUMNS = 512  # enough for kernels that split long rows, and for windows that no configuration states
# The root mean square error relative to the logits' standard deviation. In bfloat16, rounding alone gives 0.03 over 32
# random layers (more if 4-bit prompts use another matrix kernel), while a wrong position or mask gives 0.6.
TOLERANCE = {torch.float32: 2.5e-4, torch.float16: 0.03, torch.bfloat16: 0.12}


def why_not(model: CausalLM, device: str, columns: int, *, by_lengths: bool) -> str | None:
    """Return why ``model`` cannot be decoded in slots of ``columns`` tokens, or None if it can."""
    return _stated_obstacle(model, columns) or _measured_obstacle(model, device, columns, by_lengths)


def _stated_obstacle(model: CausalLM, columns: int) -> str | None:
    config = text_config(model)
    kinds = set(getattr(config, "layer_types", None) or ()) - {FULL, SLIDING}
    if kinds:
        return f"layers of kind {', '.join(sorted(kinds))}"
    if getattr(model.config, "is_encoder_decoder", False):
        return "an encoder"
    return None


@torch.inference_mode()
def _measured_obstacle(model: CausalLM, device: str, columns: int, by_lengths: bool) -> str | None:
    forward = CausalForward(model)
    reach = max((window or 0 for window in windows(model, columns).values()), default=0)
    texts = _texts(model, reach)
    columns = bucket(max(min(columns, MOST_COLUMNS), max(map(len, texts))), COLUMN_STEP)
    try:
        attention = SlotAttention(model, columns, device, by_lengths=by_lengths)
        with attention.installed():
            got = _decode_two(forward, attention, texts, columns, device)
    except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return f"its forward does not accept the slots ({type(error).__name__}: {str(error)[:120]})"
    states = [forward.states(torch.tensor([text], device=device))[0, -2:] for text in texts]
    want = torch.stack([forward.logits(each) for each in states]).float()
    moved = distance(got, want)
    if not moved <= tolerance(model):
        return f"decoding in slots changes its logits by {moved:.2g} standard deviations"
    return None


def tolerance(model: CausalLM) -> float:
    """Return the ``distance`` up to which logits of this model count as equal."""
    return TOLERANCE.get(model.get_input_embeddings().weight.dtype, TOLERANCE[torch.float32])


def distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """Return the root mean square of ``got - want`` over the standard deviation of ``want``.

    The largest difference would grow with the vocabulary: of 128,000 errors, one is four to five times the usual.
    """
    return float((got - want).square().mean().sqrt() / want.std())


def _decode_two(
    forward: CausalForward, attention: SlotAttention, texts: list[list[int]], columns: int, device: str
) -> torch.Tensor:
    """Return the logits [rows, 2, vocabulary] after each of the last two tokens, decoded one at a time."""
    cache = SlotCache(text_config(forward.model).num_hidden_layers, len(texts), columns)
    cache.fill(torch.arange(len(texts), device=device))
    forward.states(right_padded([text[:-2] for text in texts], device), past_key_values=cache, use_cache=True)
    offsets = torch.arange(len(texts), device=device) * columns
    logits = []
    for back in (-2, -1):
        positions = torch.tensor([len(text) + back for text in texts], device=device)
        cache.decode(offsets + positions, columns)
        states = forward.states(
            torch.tensor([[text[back]] for text in texts], device=device),
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
            **attention.arguments(positions, columns),
        )
        logits.append(forward.logits(states[:, -1]).float())
    return torch.stack(logits, dim=1)


def _texts(model: CausalLM, reach: int) -> list[list[int]]:
    """Return two texts of unequal length, the second with more tokens than ``reach`` sees."""
    size = model.get_input_embeddings().weight.shape[0]
    short, long = PROMPT_LENGTHS
    lengths = (short, long + reach)
    return [[(7919 * (i + 1) * (row + 1) + 13) % size for i in range(n + 2)] for row, n in enumerate(lengths)]

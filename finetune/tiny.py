"""The embedded base model: a small Llama and its tokenizer, made here from synthetic reading matter in about a minute.

It stands in for a real base where there is no network: it has read about the conditions (encyclopaedia, notes,
leaflets) but has never seen a question answered, so fine-tuning it shows a real difference. It knows nothing that
anyone should act upon.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.synthetic import pretraining_documents
from harness.files import write_text_atomically

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

RECORD = "tiny.json"
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
# The quickstart does not use it; it is there for those who try the prompt class `chat` on this model.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ {'user': 'Patient:', 'assistant': 'Doctor:'}.get(message['role'], 'Note:') + '\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Doctor:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class TinySize:
    """How large the model is and how long it learns. Widths are multiples of 64, the block size of nf4."""

    vocabulary: int = 2048
    hidden: int = 128
    intermediate: int = 384
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    context: int = 512
    documents: int = 8000
    steps: int = 400
    batch: int = 4
    sequence: int = 256
    learning_rate: float = 1e-2
    warmup: float = 0.05


SMALLEST = TinySize(vocabulary=512, hidden=64, intermediate=128, layers=2, heads=2, kv_heads=1, documents=300, steps=20)
"""A model of a few seconds, for tests of what surrounds it."""

Progress = Callable[[int, int, float], None]
"""Called with the steps done, the steps in all, and the last step's loss (nats a token)."""


@dataclass(frozen=True)
class TinyBase:
    """Where the model lies, what it was made from, and whether it was found rather than made."""

    path: Path
    digest: str
    loss: float
    parameters: int
    reused: bool


def build_tiny_base(
    out: Path,
    *,
    seed: int = 42,
    size: TinySize | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> TinyBase:
    """Make the tiny base in folder ``out``, or find it there if the same inputs made it and no file has changed.

    The same seed, size and number of threads give the same weights. The folder opens with
    ``AutoModelForCausalLM`` and ``AutoTokenizer``; it appears whole or not at all.
    """
    size = size or TinySize()
    if steps is not None:
        size = TinySize(**{**asdict(size), "steps": steps})
    documents = pretraining_documents(seed=seed, count=size.documents)
    digest = _inputs_digest(seed, size, documents)
    if (found := _reusable(out, digest)) is not None:
        return found

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "base"
        folder.mkdir()
        tokenizer = _train_tokenizer(documents, size)
        model, loss = _pretrain(tokenizer, documents, seed, size, progress)
        parameters = sum(weights.numel() for weights in model.parameters())
        _save(model, tokenizer, size, folder)
        record = {"digest": digest, "seed": seed, "size": asdict(size), "loss": loss, "parameters": parameters}
        record["files"] = {file.name: _file_digest(file) for file in sorted(folder.iterdir())}
        write_text_atomically(folder / RECORD, json.dumps(record, indent=1) + "\n")
        _put_in_place(folder, out)
    return TinyBase(out, digest, loss, parameters, reused=False)


def _inputs_digest(seed: int, size: TinySize, documents: list[str]) -> str:
    """Hash whatever decides the weights: this very code, the texts, the seed and the size."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(json.dumps([seed, asdict(size)], sort_keys=True).encode())
    for document in documents:
        digest.update(document.encode() + b"\0")
    return digest.hexdigest()


def _reusable(out: Path, digest: str) -> TinyBase | None:
    try:
        record: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
        if record["digest"] != digest:
            return None
        if any(_file_digest(out / name) != known for name, known in record["files"].items()):
            return None
        return TinyBase(out, digest, record["loss"], record["parameters"], reused=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or damaged: it is simply made again


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _put_in_place(folder: Path, out: Path) -> None:
    """Move the finished folder to ``out``, over an outdated one."""
    if out.exists():
        shutil.rmtree(out)
    folder.replace(out)


# --- tokenizer ------------------------------------------------------------------------------------------------------
def _train_tokenizer(documents: list[str], size: TinySize) -> Tokenizer:
    """Train byte-level BPE, which gives back any text unchanged, with ``<s>`` put in front as Llama does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=[UNKNOWN, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A {BEGIN}:1 $B:1",
        special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))],
    )
    return tokenizer


# --- pretraining ----------------------------------------------------------------------------------------------------
def _pretrain(
    tokenizer: Tokenizer, documents: list[str], seed: int, size: TinySize, progress: Progress | None
) -> tuple[LlamaForCausalLM, float]:
    """Return the trained model and the mean loss of its last tenth of steps. Always on the CPU, in float32."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _new_model(tokenizer, size)
        optimizers = _optimizers(model, size)
        schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: _rate(step, size)) for one in optimizers]
        losses: list[float] = []
        model.train()
        for batch in _batches(_packed(tokenizer, documents, size), size):
            logits = model(input_ids=batch, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(loss.item())
            if progress is not None:
                progress(len(losses), size.steps, losses[-1])
    last = losses[-max(1, len(losses) // 10) :]
    model.train(False)
    return model, sum(last) / len(last)


def _new_model(tokenizer: Tokenizer, size: TinySize) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=size.context,
        bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(END),
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _optimizers(model: LlamaForCausalLM, size: TinySize) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices and AdamW for the rest: over so few steps it halves the loss AdamW alone reaches."""
    import torch

    matrices = [weights for name, weights in model.named_parameters() if weights.ndim == 2 and "embed" not in name]
    others = [weights for name, weights in model.named_parameters() if weights.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            matrices, lr=size.learning_rate, momentum=0.9, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=size.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, size: TinySize) -> float:
    """Return the learning rate's factor: a linear warm-up, then a cosine down to a twentieth."""
    warm = max(1, round(size.warmup * size.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, size.steps - warm)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _packed(tokenizer: Tokenizer, documents: list[str], size: TinySize) -> torch.Tensor:
    """Return all documents, ``<s>`` before and ``</s>`` behind each, cut into rows of ``sequence`` tokens."""
    import torch

    end = tokenizer.token_to_id(END)
    tokens = [token for encoding in tokenizer.encode_batch(documents) for token in (*encoding.ids, end)]
    rows = max(1, len(tokens) // size.sequence)
    return torch.tensor(tokens[: rows * size.sequence]).view(rows, -1)


def _batches(rows: torch.Tensor, size: TinySize) -> Iterator[torch.Tensor]:
    """Yield ``steps`` batches, shuffling the rows anew for every epoch."""
    import torch

    order = torch.empty(0, dtype=torch.long)
    for _ in range(size.steps):
        while len(order) < size.batch:
            order = torch.cat([order, torch.randperm(len(rows))])
        yield rows[order[: size.batch]]
        order = order[size.batch :]


# --- saving ---------------------------------------------------------------------------------------------------------
def _save(model: LlamaForCausalLM, tokenizer: Tokenizer, size: TinySize, folder: Path) -> None:
    """Save as real bases are saved: bf16 safetensors, with a tokenizer that pads with its end."""
    from transformers import PreTrainedTokenizerFast

    model.bfloat16().save_pretrained(folder)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        model_max_length=size.context,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)

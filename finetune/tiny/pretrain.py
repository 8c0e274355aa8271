"""How the embedded base is made: a small Llama and its tokenizer, pretrained on the project's synthetic texts.

It has read about the conditions (encyclopaedia, notes, leaflets, textbook comments on cases) but has never seen a
doctor reply to a patient, so fine-tuning makes a real difference. Its knowledge is not medical advice.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.synthetic import pretraining_documents
from harness.files import digest_file, replace_folder, write_text_atomically
from harness.machine import library_versions

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

RECORD = "tiny.json"
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
# Increase when the code below would make other weights from the same texts, seed and size.
_FORMAT = 2
_STEPS_A_CALL = 10
_VERSIONS = ("torch", "transformers", "tokenizers")
# Unused by the quickstart; for trying the prompt `chat` on this model.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ {'user': 'Patient:', 'assistant': 'Doctor:'}.get(message['role'], 'Note:') + '\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Doctor:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class TinySize:
    """The size of the model and its training. Widths are multiples of 64, the block size of nf4.

    ``weight_noise`` is the standard deviation of the noise added to each matrix during training, as a share of the
    matrix's own: it makes the model robust to quantisation.
    """

    vocabulary: int = 1536
    hidden: int = 256
    intermediate: int = 384
    layers: int = 3
    heads: int = 8
    kv_heads: int = 4
    context: int = 512
    documents: int = 100_000
    steps: int = 6000
    batch: int = 16
    sequence: int = 256
    learning_rate: float = 1e-2
    warmup: float = 0.05
    weight_noise: float = 0.1


SMALLEST = TinySize(vocabulary=512, hidden=64, intermediate=128, layers=2, heads=2, kv_heads=1, documents=300, steps=20)
"""A model that trains in seconds, for tests."""

Progress = Callable[[int, float], None]
"""Called every few steps with the steps since the last call and the last step's loss (nats per token)."""


@dataclass(frozen=True)
class TinyBase:
    """The model's folder and record. ``held_out_loss`` is in nats per token of unseen documents."""

    path: Path
    digest: str
    loss: float
    held_out_loss: float
    parameters: int


def build_tiny_base(
    out: Path,
    *,
    seed: int = 42,
    size: TinySize | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> TinyBase:
    """Make the tiny base in the folder ``out``, replacing an existing one.

    The same seed, size, device and number of threads give the same weights. The folder loads with
    ``AutoModelForCausalLM`` and ``AutoTokenizer``; it appears complete or not at all.
    """
    size = size or TinySize()
    documents = pretraining_documents(seed=seed, count=size.documents)
    started = time.monotonic()
    with replace_folder(out) as folder:
        tokenizer = _train_tokenizer(documents, size)
        model, loss = _pretrain(tokenizer, documents, seed, size, device, progress)
        _save(model, tokenizer, size, folder)
        record: dict[str, Any] = {
            "digest": recipe_digest(seed, size),
            "seed": seed,
            "size": asdict(size),
            "loss": round(loss, 4),
            "held_out_loss": round(held_out_loss(folder, seed), 4),
            "parameters": sum(weights.numel() for weights in model.parameters()),
            "device": device,
            "seconds": round(time.monotonic() - started, 1),
            "versions": library_versions(_VERSIONS),
        }
        record["files"] = {file.name: digest_file(file) for file in sorted(folder.iterdir())}
        write_text_atomically(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return read_record(out)


def read_record(folder: Path) -> TinyBase:
    """Return the record written beside a base."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return TinyBase(folder, record["digest"], record["loss"], record["held_out_loss"], record["parameters"])


def recipe_digest(seed: int, size: TinySize) -> str:
    """Return the SHA-256 of what determines the weights: the texts, the seed, the size and this code's format."""
    digest = hashlib.sha256(json.dumps([_FORMAT, seed, asdict(size)], sort_keys=True).encode())
    for document in pretraining_documents(seed=seed, count=size.documents):
        digest.update(document.encode() + b"\0")
    return digest.hexdigest()


def held_out_loss(folder: Path, seed: int, documents: int = 200) -> float:
    """Return the nats per token of the base in ``folder`` over documents drawn with another seed, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    nats = tokens = 0.0
    with torch.inference_mode():
        for document in pretraining_documents(seed=seed + 1, count=documents):
            ids = tokenizer(document, return_tensors="pt").input_ids[:, : model.config.max_position_embeddings]
            logits = model(input_ids=ids).logits[0, :-1]
            nats += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
            tokens += ids.shape[1] - 1
    return nats / tokens


def _train_tokenizer(documents: list[str], size: TinySize) -> Tokenizer:
    """Train byte-level BPE, which is lossless, with ``<s>`` prepended as in Llama."""
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


def _pretrain(
    tokenizer: Tokenizer, documents: list[str], seed: int, size: TinySize, device: str, progress: Progress | None
) -> tuple[LlamaForCausalLM, float]:
    """Return the trained float32 model, on the CPU, and the mean loss of the last tenth of its steps."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _new_model(tokenizer, size).to(device)  # type: ignore[arg-type]
        matrices = [weights for name, weights in model.named_parameters() if weights.ndim == 2 and "embed" not in name]
        optimizers = _optimizers(model, matrices, size)
        schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: _rate(step, size)) for one in optimizers]
        losses: list[torch.Tensor] = []
        model.train()
        for batch in _batches(_packed(tokenizer, documents, size), size):
            batch = batch.to(device)
            with torch.no_grad():
                share = size.weight_noise
                noises = [torch.randn_like(weights) * (share * weights.std()) for weights in matrices] if share else []
                for weights, noise in zip(matrices, noises, strict=False):
                    weights.add_(noise)  # removed again before the update
            logits = model(input_ids=batch, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for weights, noise in zip(matrices, noises, strict=False):
                    weights.sub_(noise)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(loss.detach())
            if progress is not None and len(losses) % _STEPS_A_CALL == 0:
                progress(_STEPS_A_CALL, losses[-1].item())
    last = losses[-max(1, len(losses) // 10) :]
    model.train(False)
    return model.cpu(), torch.stack(last).mean().item()


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


def _optimizers(
    model: LlamaForCausalLM, matrices: list[torch.nn.Parameter], size: TinySize
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices and AdamW for the rest: in so few steps this halves the loss of AdamW alone."""
    import torch

    others = [weights for name, weights in model.named_parameters() if weights.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            matrices, lr=size.learning_rate, momentum=0.9, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=size.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, size: TinySize) -> float:
    """Return the learning rate's factor: a linear warm-up, then a cosine down to a hundredth."""
    warm = max(1, round(size.warmup * size.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, size.steps - warm)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _packed(tokenizer: Tokenizer, documents: list[str], size: TinySize) -> torch.Tensor:
    """Return all documents, each between ``<s>`` and ``</s>``, split into rows of ``sequence`` tokens."""
    import torch

    end = tokenizer.token_to_id(END)
    tokens = [token for encoding in tokenizer.encode_batch(documents) for token in (*encoding.ids, end)]
    rows = max(1, len(tokens) // size.sequence)
    return torch.tensor(tokens[: rows * size.sequence]).view(rows, -1)


def _batches(rows: torch.Tensor, size: TinySize) -> Iterator[torch.Tensor]:
    """Yield ``steps`` batches, reshuffling the rows every epoch."""
    import torch

    order = torch.empty(0, dtype=torch.long)
    for _ in range(size.steps):
        while len(order) < size.batch:
            order = torch.cat([order, torch.randperm(len(rows))])
        yield rows[order[: size.batch]]
        order = order[size.batch :]


def _save(model: LlamaForCausalLM, tokenizer: Tokenizer, size: TinySize, folder: Path) -> None:
    """Save like real bases: bf16 safetensors, with a tokenizer that pads with its end token."""
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

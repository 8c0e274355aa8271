"""``python -m finetune.tiny --out DIR``: make the embedded base again from the texts, like the shipped one."""

from __future__ import annotations

import argparse
from pathlib import Path

from finetune.tiny.pretrain import TinySize, build_tiny_base
from harness.progress import shown_progress


def main() -> None:
    """Pretrain the embedded base: 6,000 steps, three minutes on an H100, far longer on a CPU."""
    parser = argparse.ArgumentParser(prog="python -m finetune.tiny", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; an existing one is replaced")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=42, help="seed of the texts and of the training")
    options = parser.parse_args()
    with shown_progress() as shown:
        shown.start("pretraining", TinySize().steps, "steps")
        made = build_tiny_base(
            options.out,
            seed=options.seed,
            device=options.device,
            progress=lambda done, loss: shown.advance("pretraining", done, detail=f"loss {loss:.3f}"),
        )
        shown.finish("pretraining")
    print(
        f"Made a Llama of {made.parameters:,} parameters in {made.path}: loss {made.loss:.3f} nats per token, "
        f"{made.held_out_loss:.3f} on held-out documents."
    )


if __name__ == "__main__":
    main()

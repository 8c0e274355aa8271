"""``python -m finetune.tiny``: make the embedded base anew from the texts, as the shipped one was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal import draw_progress
from finetune.tiny.pretrain import build_tiny_base


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the model to; one that is there is replaced.")],
    device: Annotated[str, typer.Option(help="cpu or cuda; on a GPU it takes minutes.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the texts and of the training.")] = 42,
) -> None:
    """Pretrain the embedded base: 6,000 steps, minutes on a GPU and an hour or two on two CPU cores."""
    with draw_progress() as draw:
        made = build_tiny_base(
            out, seed=seed, device=device, progress=lambda done, of, loss: draw(done, of, {"loss": loss})
        )
    typer.echo(
        f"Made a Llama of {made.parameters:,} parameters in {made.path}: loss {made.loss:.3f} nats per token, "
        f"{made.held_out_loss:.3f} on documents it has not seen."
    )


if __name__ == "__main__":
    typer.run(main)

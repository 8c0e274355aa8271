"""How far from a model's best token half precision alone makes it decode: what ``fidelity.sure_disagreement`` rests on.

    python -m benchmarks.near_ties MODEL DIALOGUES.jsonl [--limit 200] [--out FILE.json]

A model decodes greedily in bfloat16 and in float32. Where the two replies part, it is asked in float32 how much less
probable than its best token it finds the one that bfloat16 chose.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path

import numpy as np

from harness.backends.base import ChoiceRequest, DecodingSettings, Reply, ReplyRequest
from harness.backends.local.backend import LocalBackends
from harness.dialogues.tokens import encode_prompt
from harness.passes.served_replies import first_difference
from harness.store.provenance import hardware, versions
from harness.variants.model import Variant


def behind(model: str, prompts: list[str], device: str) -> list[float]:
    """Return log p of the best token less that of bfloat16's choice, in nats, where replies part."""
    full = Variant(name="float32", kind="base", model=model, dtype="float32")
    half = Variant(name="bfloat16", kind="base", model=model, dtype="bfloat16")
    backends = LocalBackends((full, half), device, event=lambda kind, detail: None)
    with closing(backends):
        tokenizer = backends.of(full).tokenizer
        asked = [ReplyRequest(str(n), tuple(encode_prompt(tokenizer, text))) for n, text in enumerate(prompts)]
        room = backends.of(full).context_length - 64
        asked = [one for one in asked if len(one) <= room]
        replies = {
            variant.name: {
                one.id: one
                for one in backends.of(variant).generate(asked, DecodingSettings(64))
                if isinstance(one, Reply)
            }
            for variant in (full, half)
        }
        requests = []
        for one in asked:
            ours, other = replies["float32"][one.id].tokens, replies["bfloat16"][one.id].tokens
            if ours != other:
                at = first_difference(ours, other)
                requests.append(ChoiceRequest(one.id, (*one.ids, *ours[:at]), next(iter(other[at:]), None)))
        return [found.behind for found in backends.of(full).margins(requests)]


def main() -> None:
    """Read the options, measure the margins at first differences, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("dialogues", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = options.dialogues.read_text(encoding="utf-8").splitlines()[: options.limit]
    found = behind(options.model, [json.loads(line)["instruction"] for line in lines], options.device)
    result = {
        "model": Path(options.model).name,
        "replies": len(lines),
        "differ": len(found),
        "behind_nats": {f"p{q}": float(np.percentile(found, q)) for q in (50, 90, 99, 100)} if found else {},
        "versions": versions(),
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

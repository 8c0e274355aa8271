"""A single prompt through a graph: the same replies, one capture a length, and none where a graph is impossible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch

from harness.backends.base import TimedRequest
from harness.backends.local import prompt_graphs
from harness.backends.local.backend import LocalBackends
from harness.backends.local.graphs import CannotCaptureError
from harness.backends.local.timed import CompiledEngine, TimedEngine
from harness.progress import EventKind
from harness.variants.model import Variant
from tests.backends.local.test_decoding import lent

PROMPTS = [(1, 5, 9, 30), (1, 7, 8, 11), (1, 40, 50), (1, 5, 9, 30)]


class Recorded:
    """A GraphedForward on the host: replays the forward into the buffer of its shape."""

    made: ClassVar[list[Recorded]] = []

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self.forward = forward
        self.captured: list[tuple[int, ...]] = []
        self.replayed: list[tuple[int, ...]] = []
        self.freed = False
        Recorded.made.append(self)

    def capture(self, *shape: int) -> torch.Tensor | None:
        if shape in self.captured:
            return None
        self.captured.append(shape)
        return self.forward(*shape)

    def __call__(self, *shape: int) -> torch.Tensor:
        self.capture(*shape)
        self.replayed.append(shape)
        return self.forward(*shape)

    def free(self) -> None:
        self.freed = True


def engine(monkeypatch: pytest.MonkeyPatch, graphs: Any = Recorded) -> CompiledEngine:
    """A compiled engine on the CPU, as if prompts could be captured there."""
    monkeypatch.setattr(Recorded, "made", [])
    monkeypatch.setattr(prompt_graphs, "GraphedForward", graphs)
    made = CompiledEngine(lent(), room=40)
    made._prompt_graphs = True
    return made


def asked(engine: TimedEngine, prompt: tuple[int, ...], tokens: int = 6) -> Any:
    return engine.request([prompt], tokens, natural=False, room=40)


def test_prompts_through_graphs_get_the_replies_of_prompts_without(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, graphed = CompiledEngine(lent(), room=40), engine(monkeypatch)
    want = [asked(plain, prompt).tokens for prompt in PROMPTS]
    assert [asked(graphed, prompt).tokens for prompt in PROMPTS] == want
    assert len({tuple(one) for one in want}) == 3
    assert graphed.notes == []


def test_each_length_is_captured_once_before_the_request_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graphed = engine(monkeypatch)
    timed = [asked(graphed, prompt) for prompt in PROMPTS]
    assert Recorded.made[0].captured == [(4,), (3,)]
    # A captured length is replayed by the check against the plain forward and by an untimed prompt.
    assert Recorded.made[0].replayed == [(4,)] * 3 + [(4,)] + [(3,)] * 3 + [(4,)]
    assert [one.setup_seconds > 0 for one in timed] == [True, False, True, False]
    assert all(len(one.stamps_ns) == 6 for one in timed)


def test_a_batch_runs_without_graphs_of_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch).request([(1, 5, 9), (1, 7)], 4, natural=False, room=40)
    assert Recorded.made == []


class Impossible(Recorded):
    error: Exception = CannotCaptureError("RuntimeError: no")

    def capture(self, *shape: int) -> torch.Tensor | None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CannotCaptureError("RuntimeError: no"), "prompts without CUDA graphs: RuntimeError: no"),
        (torch.OutOfMemoryError("no"), "prompts without CUDA graphs: they do not fit into memory"),
    ],
)
def test_prompts_that_cannot_be_captured_run_without_graphs_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(Impossible, "error", error)
    graphed, plain = engine(monkeypatch, Impossible), CompiledEngine(lent(), room=40)
    for tokens in (6, 7):  # each has a decoder of its own
        assert asked(graphed, PROMPTS[0], tokens).tokens == asked(plain, PROMPTS[0], tokens).tokens
    assert graphed.notes == [said]
    assert [one.freed for one in Recorded.made] == [True]


def test_a_graph_that_gives_other_logits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Recorded):
        def __call__(self, *shape: int) -> torch.Tensor:
            return super().__call__(*shape).flip(-1)

    graphed = engine(monkeypatch, Wrong)
    assert asked(graphed, PROMPTS[0]).tokens == asked(CompiledEngine(lent(), room=40), PROMPTS[0]).tokens
    assert len(graphed.notes) == 1
    assert "a graph changes the logits of a prompt by" in graphed.notes[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_on_cuda_every_kind_of_variant_replies_as_without_prompt_graphs(
    trio: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch, dtype: str, quantization: str
) -> None:
    how = {"dtype": dtype, "quantization": quantization}
    variants = tuple(one.model_copy(update=how) for one in trio if quantization == "none" or one.kind != "merged")
    events: list[tuple[EventKind, Any]] = []
    backends = LocalBackends(variants, "cuda:0", event=lambda *event: events.append(event))

    def replies() -> list[Any]:
        """Variants are interleaved, so that an adapter is switched on and off between replays."""
        backends.release()
        requests = [TimedRequest("compiled", (prompt,), 6, False, 40, 40) for prompt in PROMPTS]
        return [backends.of(variant).timed(request) for request in requests for variant in variants]

    graphed = replies()
    monkeypatch.setattr(CompiledEngine, "prompt_graphs", False)
    plain = replies()
    assert [one.tokens for one in graphed] == [one.tokens for one in plain]
    assert len({one.tokens for one in graphed}) > len(PROMPTS)
    assert all(one.submitted_ns < one.launched_ns <= one.stamps_ns[0] for one in graphed + plain)
    count = len(variants)
    assert [one.setup_seconds > 0 for one in graphed] == [True] * count + [False] * count + [True] * count + [
        False
    ] * count
    assert [detail for kind, detail in events if kind is EventKind.LATENCY_ENGINE] == []

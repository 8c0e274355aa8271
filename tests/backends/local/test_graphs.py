"""A step that cannot be captured as a CUDA graph is run without one, and the report says why."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harness.backends.base import Reply
from harness.backends.local import decoding, replies
from harness.backends.local import graphs as graphs_module
from harness.backends.local.batches import columns_for
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.graphs import CannotCaptureError, GraphedForward
from harness.backends.local.replies import generate_replies
from harness.backends.local.timed import CompiledEngine
from harness.progress import EventKind
from tests.backends.local.test_decoding import SETTINGS, lent, plain, requests


class Streams:
    """What GraphedForward uses of torch.cuda, on the host; keeps which stream is current."""

    def __init__(self) -> None:
        self.current = "main"
        self.fails: Exception | None = None

    def graph_pool_handle(self) -> tuple[int, int]:
        return (0, 0)

    def current_stream(self) -> Any:
        return self

    def Stream(self) -> Any:  # noqa: N802
        return self

    def wait_stream(self, other: Any) -> None:
        pass

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before = self.current
        try:
            yield
        finally:
            self.current = before

    def CUDAGraph(self) -> Any:  # noqa: N802
        return self

    @contextlib.contextmanager
    def graph(self, graph: Any, pool: Any) -> Iterator[None]:
        """Like torch's: when ending the capture fails, that error replaces the first and the stream stays."""
        self.current = "capturing"
        try:
            if self.fails is not None:
                raise self.fails
            yield
        except Exception:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
        self.current = "main"

    def replay(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Torch:
    """Torch with another ``cuda``."""

    def __init__(self, cuda: Streams) -> None:
        self.cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    made = Streams()
    monkeypatch.setattr(graphs_module, "torch", Torch(made))
    return made


def test_a_capture_that_fails_names_the_first_error_and_gives_the_stream_back(streams: Streams) -> None:
    streams.fails = RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture.\nhint")
    step = GraphedForward(lambda width, window: torch.zeros(width))
    with pytest.raises(CannotCaptureError) as found:
        step(2, 64)
    assert str(found.value) == "RuntimeError: Cannot copy between CPU and CUDA tensors during CUDA graph capture"
    assert streams.current == "main"
    assert step.capture_seconds > 0


def test_a_capture_that_runs_out_of_memory_is_a_lack_of_memory(streams: Streams) -> None:
    streams.fails = torch.OutOfMemoryError("no")
    with pytest.raises(RuntimeError, match="during capture"):
        GraphedForward(lambda width, window: torch.zeros(width))(2, 64)


def test_a_shape_is_captured_once(streams: Streams) -> None:
    ran = []
    step = GraphedForward(
        lambda width, window: torch.full((width,), float(len(ran))) if ran.append(width) is None else None
    )
    assert step(2, 64) is step(2, 64)
    assert ran == [2, 2]  # warm-up and capture; replays run nothing


def test_lists_that_index_tensors_are_on_the_device_before_the_capture(streams: Streams) -> None:
    states = torch.arange(24.0).view(2, 3, 4)
    step = GraphedForward(lambda width, window: states[:, [-2]] + states[..., [0], :])
    with torch.inference_mode():
        assert torch.equal(step(2, 64), states[:, -2:-1] + states[:, :1])
    assert {places for _, places in step._indices._kept} == {(-2,), (0,)}


class NeverCaptures:
    """A GraphedForward over a step that no graph can hold."""

    capture_seconds = 0.5

    def __init__(self, step: Any) -> None:
        pass

    def __call__(self, width: int, window: int) -> torch.Tensor:
        raise CannotCaptureError("RuntimeError: no")

    def free(self) -> None:
        pass


def test_decoding_goes_on_without_graphs_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "GraphedForward", NeverCaptures)
    loaded, wanted, told = lent(), requests(8), []
    decoder = SlotDecoder(
        loaded, SETTINGS, rows=3, columns=columns_for(wanted, SETTINGS), graphs=True, without_graphs=told.append
    )
    found = {reply.id: reply.tokens for reply in decoder.run(deque(wanted)) if isinstance(reply, Reply)}
    assert found == {request.id: plain(loaded, request) for request in wanted}
    assert told == ["RuntimeError: no"]
    assert decoder.profile.capture_seconds == 0.5


def test_a_run_is_told_once_that_there_are_no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SlotDecoder.__init__

    def on_cuda(self: SlotDecoder, *given: Any, **named: Any) -> None:
        real(self, *given, **{**named, "graphs": True})

    monkeypatch.setattr(decoding, "GraphedForward", NeverCaptures)
    monkeypatch.setattr(replies.SlotDecoder, "__init__", on_cuda)
    events: list[tuple[EventKind, Any]] = []
    made = list(generate_replies(lent(), requests(4), SETTINGS, event=lambda *event: events.append(event)))
    assert len(made) == 4
    detail = {"variant": "m", "reason": "RuntimeError: no", "engine": "slots without CUDA graphs"}
    assert events == [(EventKind.SLOW_PATH, detail)]


def test_a_timed_request_whose_capture_failed_is_marked_as_setup_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "GraphedForward", NeverCaptures)
    engine = CompiledEngine(lent(), room=40)
    engine._graphs = True
    first = engine.request([[1, 5, 9]], 4, natural=False, room=40)
    second = engine.request([[1, 5, 9]], 4, natural=False, room=40)
    assert (first.setup_seconds, second.setup_seconds) == (0.5, 0.0)
    assert first.tokens == second.tokens
    assert engine.notes == ["without CUDA graphs: RuntimeError: no"]

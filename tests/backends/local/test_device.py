"""What running out of memory looks like."""

from __future__ import annotations

import pytest
import torch

from harness.backends.local.device import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_every_way_of_saying_it_is_known(error: BaseException) -> None:
    assert is_out_of_memory(error)


def test_no_memory_for_a_graph_is_known_by_the_error_before_the_one_that_is_seen() -> None:
    def capture(first: Exception) -> BaseException:
        try:
            try:
                raise first
            finally:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        except RuntimeError as error:
            return error

    assert is_out_of_memory(capture(torch.OutOfMemoryError("CUDA out of memory.")))
    assert not is_out_of_memory(capture(ValueError("a shape that does not fit")))


def test_another_error_met_while_dealing_with_it_is_its_own() -> None:
    try:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    except torch.OutOfMemoryError as first:
        later = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        later.__context__ = first
    assert not is_out_of_memory(later)

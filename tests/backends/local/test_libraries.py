"""Importing the libraries ahead, without compiling what nobody calls."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from harness.backends.local.libraries import compiled_when_called


def compiler(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace ``torch.compile`` by one that negates the result; return the options of each call of it."""
    calls: list[dict[str, Any]] = []

    def compile(function: Any, **options: Any) -> Any:
        calls.append(options)
        return lambda number: -function(number)

    monkeypatch.setattr(torch, "compile", compile)
    return calls


def test_a_function_is_compiled_once_when_it_is_first_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = compiler(monkeypatch)
    with compiled_when_called():
        square = torch.compile(lambda number: number**2, dynamic=False)
    assert calls == []
    assert [square(2), square(3)] == [-4, -9]
    assert calls == [{"dynamic": False}]


def test_a_decorator_with_options_waits_too_and_torch_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = compiler(monkeypatch)
    before = torch.compile
    with compiled_when_called():

        @torch.compile(dynamic=True)
        def half(number: int) -> float:
            return number / 2

    assert (torch.compile, calls, half.__name__) == (before, [], "half")
    assert half(4) == -2.0
    assert calls == [{"dynamic": True}]


@pytest.mark.slow
def test_importing_for_an_adapter_imports_no_compiler() -> None:
    pytest.importorskip("bitsandbytes")
    code = (
        "import sys\n"
        "from harness.backends.choose import import_libraries\n"
        "from harness.variants.model import Variant\n"
        "import_libraries([Variant(name='adapter', kind='adapter', model='-', adapter='-')])\n"
        "print([name in sys.modules for name in ('peft', 'bitsandbytes', 'torch._inductor.compile_fx', 'datasets')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, True, False, False]"

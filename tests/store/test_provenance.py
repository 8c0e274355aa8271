"""What is known of the machine is told, whatever of it a driver does not tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from harness.cli.doctor import _gpus
from harness.store.provenance import gpu_facts

FACTS = {
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetMemoryInfo": "memory_gib",
    "nvmlSystemGetDriverVersion": "driver",
}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlSystemGetDriverVersion": lambda: "580",
        "nvmlDeviceGetName": lambda handle: b"NVIDIA H100",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=80 * 2**30),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


def test_a_card_has_name_memory_and_driver(card: None) -> None:
    assert gpu_facts() == [{"name": "NVIDIA H100", "memory_gib": 80.0, "driver": "580"}]
    assert [finding.detail for finding in _gpus()] == ["NVIDIA H100, 80.0 GiB, driver 580"]


@pytest.mark.parametrize("refused", FACTS)
def test_a_fact_that_the_driver_does_not_tell_costs_no_other(
    refused: str, card: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, refused, refuse)
    whole = {"name": "NVIDIA H100", "memory_gib": 80.0, "driver": "580"}
    left = {key: fact for key, fact in whole.items() if key != FACTS[refused]}
    assert gpu_facts() == [{"name": "NVIDIA GPU", **left}]  # a card without a name is still a card
    assert len(_gpus()) == 1

"""A real vLLM server: what it serves is measured as the weights are, and a LoRA that it leaves out is seen.

``.ci/vllm_server install DIR`` brings it, and HARNESS_VLLM names DIR.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("httpx2")

from harness.backends.endpoint import client, probing
from harness.cli.app import main
from harness.store.folder import RunFolder
from harness.store.schema import GenerationRecord, LatencyRecord, ScoringRecord
from tests.backends.endpoint.server import TINY
from tests.finetune.conftest import make_adapter

pytestmark = [
    pytest.mark.served_vllm,
    pytest.mark.slow,
    pytest.mark.skipif("HARNESS_VLLM" not in os.environ, reason="HARNESS_VLLM names no environment with vLLM"),
]
ROOT = Path(__file__).resolve().parents[2]
LORA = "with-lora"
DIALOGUES = 10
WORDS = ["fever", "cough", "pain", "rash", "dizziness", "nausea", "tiredness", "swelling", "itching", "headache"]


class VLLM:
    """A server of the embedded base, and of a LoRA adapter beside it."""

    def __init__(self, adapter: Path, log: Path) -> None:
        self.adapter = adapter
        self._log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        script, folder = ROOT / ".ci" / "vllm_server", os.environ["HARNESS_VLLM"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [script, "serve", folder, TINY, str(self._port), f"{LORA}={self.adapter}"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/models", timeout=5).close()
                return
            except (OSError, urllib.error.URLError):
                assert self._process.poll() is None, self._log.read_text(errors="replace")[-4000:]
                time.sleep(0.5)
        raise AssertionError(self._log.read_text(errors="replace")[-4000:])

    def end(self) -> None:
        """End it with all its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLM]:
    root = tmp_path_factory.mktemp("vllm")
    server = VLLM(make_adapter(TINY, root / "adapter", size=0.3), root / "server.log")
    try:
        server.start()
        yield server
    finally:
        server.end()


def write_config(vllm: VLLM, folder: Path, *names: str) -> Path:
    """Write a config over some of: the base and the adapter here, the adapter served, and the adapter left out."""
    rows = [
        {"id": f"d{n}", "instruction": f"I have had {WORDS[n % 10]} and {WORDS[n // 3]} for {n + 2} days. What helps?",
         "output": f"Rest, and drink water. See a doctor if the {WORDS[n % 10]} is no better after {n + 1} days."}
        for n in range(DIALOGUES)
    ]  # fmt: skip
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = {"model": str(TINY), "dtype": "float32"}
    served = {"kind": "endpoint", "url": vllm.url, "tokenizer": str(TINY)}
    variants = [
        {"name": "base", "kind": "base", **local},
        {"name": "adapter", "kind": "adapter", **local, "adapter": str(vllm.adapter)},
        {"name": "served", **served, "model": LORA},
        {"name": "forgotten", **served, "model": str(TINY)},
    ]
    if "adapter" in names:
        variants[2]["same_as"] = variants[3]["same_as"] = "adapter"
    value = {
        "variants": [variant for variant in variants if variant["name"] in names],
        "dialogues": {"source": str(folder / "data.jsonl"), "split": "all"},
        "passes": ["scoring", "generation", "fidelity"], "metrics": ["rouge", "nll"], "device": "cpu",
        "generation": {"max_new_tokens": 32}, "stats": {"resamples": 200},
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def replies(folder: RunFolder, variant: str) -> dict[str, Any]:
    return {r.id: (r.reply, r.tokens, r.finish) for r in folder.records(GenerationRecord, "generation", variant)}


def nll(folder: RunFolder, variant: str) -> dict[str, Any]:
    return {record.id: record.nll for record in folder.records(ScoringRecord, "scoring", variant)}


def test_what_is_served_equals_the_weights_and_a_forgotten_lora_the_base(vllm: VLLM, tmp_path: Path) -> None:
    config = write_config(vllm, tmp_path, "base", "adapter", "served", "forgotten")
    assert main(["run", str(config), "--out", str(tmp_path / "run")]) == 0
    folder = RunFolder(tmp_path / "run")
    for served, local in (("served", "adapter"), ("forgotten", "base")):
        assert replies(folder, served) == replies(folder, local)
        assert nll(folder, served) == pytest.approx(nll(folder, local), rel=1e-4)
    assert replies(folder, "served") != replies(folder, "forgotten")
    assert nll(folder, "served") != pytest.approx(nll(folder, "forgotten"), rel=1e-2)
    served, forgotten = folder.read_summary().identities
    assert (served.finding, served.nearer) == ("same", None)
    assert (forgotten.finding, forgotten.nearer) == ("other", "base")


def test_a_real_stream_has_a_stamp_a_token_and_closed_loops_of_their_own(vllm: VLLM, tmp_path: Path) -> None:
    config = write_config(vllm, tmp_path, "served", "forgotten")
    latency = "latency={budget_minutes: null, prompts: 2, reply_tokens: 8, repeats: 1, batches: 1, concurrency: [1, 3]}"
    options = ["--set", "passes=[latency]", "--set", latency]
    assert main(["run", str(config), "--out", str(tmp_path / "run"), *options]) == 0
    records = RunFolder(tmp_path / "run").records(LatencyRecord, "latency", "served")
    assert [record.error for record in records] == [None] * (2 + 4 * 3)
    assert {len(record.stamps_ns) for record in records} == {8}
    assert {record.engine for record in records} == {"server"}


def test_a_server_that_dies_is_one_sentence_and_after_its_restart_the_same_command_goes_on(
    vllm: VLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config, out = write_config(vllm, tmp_path, "served"), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(client, "FIRST_WAIT", 0.05)
        # With a LoRA, this build's engine dies when two prompts are scored at once.
        patched.setattr(probing, "AT_ONCE_WITH_ADAPTERS", 4)
        assert main(["run", str(config), "--out", str(out)]) == 4
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1
    assert said[0].startswith(f"Error: Variant 'served': the server at {vllm.url} ")
    folder = RunFolder(out)
    before = replies(folder, "served")
    assert len(before) == DIALOGUES
    vllm.end()
    vllm.start()
    assert main(["run", str(config), "--out", str(out)]) == 0
    assert replies(folder, "served") == before
    for name, record in (("scoring", ScoringRecord), ("generation", GenerationRecord)):
        ids = [one.id for one in folder.records(record, name, "served")]
        assert sorted(ids) == sorted(f"d{n}" for n in range(DIALOGUES)), "a finished dialogue was asked again"
    assert all(value is not None for value in nll(folder, "served").values())

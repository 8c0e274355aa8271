"""``harness run`` over served variants: measured, interrupted, continued, and refused where it must be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from harness.config import RunConfig
from harness.dialogues.tokens import encode_scored
from harness.errors import InputError
from harness.store.folder import RunFolder
from harness.store.schema import GenerationRecord, ScoringRecord
from harness.yamlfile import validate
from reports.render import render as render_page
from tests.backends.endpoint.server import ALL, MODEL, REPLY, TINY, ScriptedServer, answering, hanging_up, logprob

Start = Callable[..., ScriptedServer]
QUESTIONS = [f"What helps against complaint {n}?" for n in range(6)]


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a config over six dialogues and one served variant."""

    def write(url: str, *more: dict[str, Any], served: dict[str, Any] | None = None, **changes: Any) -> Path:
        rows = [{"id": f"d{n}", "instruction": q, "output": "Rest and water."} for n, q in enumerate(QUESTIONS)]
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        variant = {"name": "served", "kind": "endpoint", "url": url, "model": MODEL, "tokenizer": str(TINY)}
        value = {
            "variants": [{**variant, **(served or {})}, *more],
            "dialogues": {"source": str(tmp_path / "data.jsonl"), "split": "all"},
            "passes": ["scoring", "generation"], "metrics": ["rouge", "nll"], "device": "cpu",
            "generation": {"max_new_tokens": 30}, "stats": {"resamples": 200}, **changes,
        }  # fmt: skip
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(value))
        return path

    return write


def run(config: Path, out: Path, *options: str) -> int:
    return main(["run", str(config), "--out", str(out), *options])


def test_a_served_variant_is_scored_and_replies(start: Start, config: Any, tmp_path: Path) -> None:
    server = start()
    assert run(config(server.url), tmp_path / "run") == 0
    folder = RunFolder(tmp_path / "run")
    assert {reply.reply for reply in folder.replies("served")} == {REPLY}
    assert folder.read_manifest().state == "complete"
    (variant,) = folder.read_manifest().variants
    assert (variant["kind"], variant["url"], variant["model"]) == ("endpoint", server.url, MODEL)
    scored = {row.id: encode_scored(server.tokenizer, row.prompt, row.reference or "") for row in folder.dialogues()}
    found = {record.id: record.nll for record in folder.records(ScoringRecord, "scoring", "served")}
    assert found == {
        name: pytest.approx(-sum(map(logprob, pair.ids[pair.n_context :])), rel=1e-12) for name, pair in scored.items()
    }


def test_the_page_shows_what_it_is_and_how_it_was_asked(start: Start, config: Any, tmp_path: Path) -> None:
    server = start()
    assert run(config(server.url), tmp_path / "run") == 0
    page = render_page(RunFolder(tmp_path / "run"))
    assert "endpoint" in page
    assert f"{MODEL} at {server.url}" in page
    assert "prompts are given as token ids; references are scored by prompt_logprobs" in page


def test_a_server_that_dies_ends_the_run_which_goes_on_without_asking_twice(
    start: Start, config: Any, tmp_path: Path, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    server = start(models=[{"id": "base"}, {"id": MODEL, "parent": "base"}])
    path, out = config(server.url), tmp_path / "run"

    def dies(answer: dict[str, Any]) -> None:
        if sum("echo" in body for body in server.dialogues_asked) == 3:  # while the third reference is scored
            server.always = hanging_up

    server.changes = dies
    assert run(path, out) == 4
    said = capsys.readouterr().err
    assert f"Error: Variant 'served': the server at {server.url} breaks off its answer, 6 times in a row." in said
    folder = RunFolder(out)
    assert folder.read_manifest().state == "failed"
    assert len(list(folder.records(ScoringRecord, "scoring", "served"))) == 3
    # Its restart: the same command goes on.
    before = Counter(map(server.text_of, server.dialogues_asked))
    server.always, server.changes = None, lambda answer: None
    failed = next(text for text, times in before.items() if times == 6)
    server.asked.clear()
    assert run(path, out) == 0
    again = Counter(map(server.text_of, server.dialogues_asked))
    assert len(again) == 3
    assert set(again) & set(before) == {failed}
    for name, record in (("scoring", ScoringRecord), ("generation", GenerationRecord)):
        ids = [one.id for one in folder.records(record, name, "served")]
        assert sorted(ids) == [f"d{n}" for n in range(6)]


def test_without_its_server_a_run_writes_nothing(config: Any, tmp_path: Path, waits: list[float], capsys: Any) -> None:
    assert run(config("http://127.0.0.1:9/v1"), tmp_path / "run") == 4
    assert "the server at http://127.0.0.1:9/v1 cannot be reached" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_server_that_cannot_score_leaves_that_one_number_out(start: Start, config: Any, tmp_path: Path) -> None:
    server = start(able=ALL - {"prompt_logprobs", "echo"})
    assert run(config(server.url), tmp_path / "run") == 0
    coverage = RunFolder(tmp_path / "run").read_summary().coverage["served"]
    why = "not measured: the server returns no log-probabilities of the prompt"
    assert coverage.not_measured == {"scoring": why}
    assert coverage.answered == 6


def test_what_only_weights_allow_is_not_measured(start: Start, config: Any, tmp_path: Path) -> None:
    assert run(config(start().url, passes=["generation", "fidelity", "memory"]), tmp_path / "run") == 0
    assert RunFolder(tmp_path / "run").read_summary().coverage["served"].not_measured == {
        "fidelity": "not measured: its backend cannot compare distributions over tokens",
        "memory": "not measured: its backend cannot measure memory",
    }


def test_messages_are_sent_where_a_server_takes_nothing_else_and_the_page_says_so(
    start: Start, config: Any, tmp_path: Path
) -> None:
    server = start(able=ALL - {"ids", "text"})
    assert run(config(server.url, prompt="chat", passes=["generation"]), tmp_path / "run") == 0
    sent = [body["messages"] for body in server.dialogues_asked]
    assert sorted(messages[-1]["content"] for messages in sent) == QUESTIONS
    assert {messages[-1]["role"] for messages in sent} == {"user"}
    folder = RunFolder(tmp_path / "run")
    assert {"kind": "server-template", "variant": "served", "url": server.url} in folder.read_manifest().events
    assert "the server&#39;s own chat template makes the prompt" in render_page(folder)


def test_local_and_served_variants_are_compared_in_one_run(start: Start, config: Any, tmp_path: Path) -> None:
    base = {"name": "base", "kind": "base", "model": str(TINY)}
    path = config(start().url, base, served={"same_as": "base"})
    assert run(path, tmp_path / "run") == 0
    folder = RunFolder(tmp_path / "run")
    assert folder.read_manifest().reference_variant == "base"
    rows = folder.read_summary().comparisons
    assert {(row.variant, row.against) for row in rows if row.metric == "quality.nll"} == {("served", "base")}


def test_a_model_that_changed_at_its_server_is_measured_again(start: Start, config: Any, tmp_path: Path) -> None:
    server = start()
    path, out = config(server.url), tmp_path / "run"
    assert run(path, out) == 0
    first = RunFolder(out).read_manifest().digests["weights/served"]
    server.asked.clear()
    assert run(path, out) == 0
    assert server.asked == []
    server.models[0]["root"] = "/models/another"
    assert run(path, out) == 0
    assert len(server.dialogues_asked) == 12
    assert RunFolder(out).read_manifest().digests["weights/served"] != first


def test_a_dry_run_asks_nobody(start: Start, config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = start()
    assert run(config(server.url), tmp_path / "run", "--dry-run") == 0
    assert f"served: served as '{MODEL}' at {server.url}, which was not asked" in capsys.readouterr().out
    assert server.headers == []


def test_the_key_is_nowhere_in_the_run(
    start: Start, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVER_KEY", "sk-very-secret")
    server = start(faults=[answering(500, {"message": "sk-very-secret"})])
    assert run(config(server.url, served={"api_key_env": "SERVER_KEY"}), tmp_path / "run") == 0
    found = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert found
    assert not [path for path in found if b"sk-very-secret" in path.read_bytes()]
    assert "sk-very-secret" not in "".join(capsys.readouterr())


def test_doctor_asks_the_servers(start: Start, config: Any, capsys: Any, waits: list[float]) -> None:
    server = start()
    path = config(server.url, {"name": "gone", "kind": "endpoint", "url": "http://127.0.0.1:9/v1", "model": "m",
                               "tokenizer": str(TINY)})  # fmt: skip
    assert main(["doctor", str(path)]) == 4
    said = capsys.readouterr().out
    assert "ok       server of 'served': prompts are given as token ids" in said
    assert "missing  server of 'gone': the server at http://127.0.0.1:9/v1 cannot be reached" in said
    assert "run the same command again" not in said  # there is no run to continue
    assert server.dialogues_asked == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "http://user:hunter2@127.0.0.1/v1"}, "contains a user name or a password"),
        ({"url": "http://models.example/v1"}, "use https, or set allow_http: true"),
        ({"url": "ftp://models.example"}, "write it as https://HOST/v1"),
        ({"url": "models.example/v1"}, "write it as https://HOST/v1"),
        ({"url": "https://models.example/v1?key=hunter2"}, "must end with its path"),
        ({"url": "https://models.example:port/v1"}, "write it as https://HOST/v1"),
        ({"url": None}, "is an endpoint but has no 'url'"),
        ({"tokenizer": None}, "is an endpoint but has no 'tokenizer'"),
        ({"quantization": "nf4"}, "its server chooses 'quantization' and 'dtype'"),
        ({"adapter": "a"}, "is of kind endpoint but has an 'adapter'"),
        ({"same_as": "merged"}, "is same_as 'merged', which is no variant with weights here"),
        ({"kind": "base"}, "is of kind base but has 'url'"),
    ],
)
def test_what_cannot_be_a_served_variant_is_refused(changes: dict[str, Any], says: str) -> None:
    variant = {"name": "s", "kind": "endpoint", "url": "https://models.example/v1", "model": "m", "tokenizer": "t"}
    with pytest.raises(InputError) as caught:
        validate(RunConfig, {"variants": [{**variant, **changes}]}, source="run.yaml")
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://models.example/v1", "http://localhost:8000/v1", "http://[::1]:8000/v1"])
def test_addresses_that_may_be_spoken_to(url: str) -> None:
    validate(RunConfig, {"variants": [_variant(url)]}, source="run.yaml")
    validate(RunConfig, {"variants": [{**_variant("http://models.example/v1"), "allow_http": True}]}, source="run.yaml")


def _variant(url: str) -> dict[str, Any]:
    return {"name": "s", "kind": "endpoint", "url": url, "model": "m", "tokenizer": "t"}

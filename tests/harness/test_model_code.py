"""Code that comes with a model never runs: every load says so, and a model that needs it is refused."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADING = {"from_pretrained", "from_config", "SentenceTransformer", "CrossEncoder", "pipeline"}
NO_SUCH_ARGUMENT = {"PeftModel", "PeftConfig", "quantizers"}  # they run no code of an adapter
OWN_BASE = ROOT / "finetune" / "tiny" / "pretrain.py"  # loads the base that ships with the project


def unsafe_loads(source: str) -> list[int]:
    """Return the lines of all loads without ``trust_remote_code=False``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = getattr(called, "attr", None) or getattr(called, "id", None)
        owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
        stated = any(
            keyword.arg == "trust_remote_code"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value is False
            for keyword in node.keywords
        )
        if name in LOADING and owner not in NO_SUCH_ARGUMENT and not stated:
            found.append(node.lineno)
    return found


def test_a_load_that_does_not_refuse_code_is_found() -> None:
    source = "AutoX.from_pretrained(p)\nAutoX.from_config(c, trust_remote_code=True)\nSentenceTransformer(p)\n"
    assert unsafe_loads(source) == [1, 2, 3]
    assert unsafe_loads("AutoX.from_pretrained(p, trust_remote_code=False)\nPeftModel.from_pretrained(m, a)") == []


def test_every_load_refuses_the_model_s_own_code() -> None:
    files = [path for room in ("harness", "finetune", "benchmarks", "reports") for path in (ROOT / room).rglob("*.py")]
    loads = {path: unsafe_loads(path.read_text(encoding="utf-8")) for path in files if path != OWN_BASE}
    assert {str(path): lines for path, lines in loads.items() if lines} == {}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra 'run'")
@pytest.mark.parametrize("place", ["model", "tokenizer"])
def test_a_model_with_its_own_code_is_refused_and_nothing_of_it_runs(place: str, tmp_path: Path) -> None:
    from tests.finetune.conftest import make_base, write_dialogues

    folder, marker = make_base(tmp_path / "model"), tmp_path / "it-ran"
    code = (
        f"open({str(marker)!r}, 'w').close()\nfrom transformers import LlamaConfig as Config, LlamaForCausalLM as Own\n"
    )
    (folder / "own.py").write_text(code)
    name = "config.json" if place == "model" else "tokenizer_config.json"
    stated = json.loads((folder / name).read_text())
    autos: dict[str, object] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"}
    stated |= (
        {"model_type": "own", "auto_map": autos}
        if place == "model"
        else {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    )
    (folder / name).write_text(json.dumps(stated))
    source = write_dialogues(tmp_path / "dialogues.jsonl", 12)
    run = {"variants": [{"name": "base", "kind": "base", "model": str(folder)}], "device": "cpu"}
    run |= {"dialogues": {"source": str(source), "split": "all", "too_long": "skip"}, "passes": ["scoring"]}
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    (tmp_path / "recipe.yaml").write_text(json.dumps({"base": str(folder), "dialogues": {"source": str(source)}}))
    for package, config in (("harness", "run.yaml"), ("finetune", "recipe.yaml")):
        done = subprocess.run(
            [sys.executable, "-m", package, "run", str(tmp_path / config), "--out", str(tmp_path / package)],
            input="y\n" * 20,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "it needs Python code that comes with it, and such code is never run" in done.stderr
        assert not marker.exists()
        shutil.rmtree(tmp_path / package, ignore_errors=True)

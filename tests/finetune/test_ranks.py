"""Several processes train as one would: the same steps, one writer, and nobody left waiting."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import finetune
from finetune.options import training_config
from finetune.ranks import ALONE, environment, joined
from finetune.recipe import Recipe
from harness.errors import InputError
from harness.files import locked
from harness.variants.resolve import read_curves
from tests.finetune.conftest import make_base, write_recipe
from tests.finetune.launched import launch

TRAINING = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "per_device_eval_batch_size": 3,  # two batches, the second of one dialogue
    "num_train_epochs": 2,
    "learning_rate": 5.0e-3,
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "optim": "adamw_torch",
}
slow = pytest.mark.slow
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


def recipe_of(folder: Path, **changes: Any) -> Path:
    """Twelve steps in float32 on 45 dialogues: eleven batches of four, and one."""
    base = make_base(folder / "base", dtype="float32")
    settings = {"training": TRAINING, "evaluation": {"interval": 5, "dialogues": 4}, "device": "cpu"}
    return write_recipe(folder / "recipe", base, **{**settings, "dtype": "float32", **changes})


def losses(out: Path) -> list[tuple[int, str, float]]:
    rows = read_curves(out / "adapter" / "curves.jsonl")
    return [(row["step"], name, row[name]) for row in rows for name in ("loss", "eval_loss") if name in row]


def refuse_difference(out: Path, from_one: Path, tolerance: float = 1e-5) -> None:
    """Compare curve and weights with those from one process."""
    ours, theirs = losses(out), losses(from_one)
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    assert [row[2] for row in ours] == pytest.approx([row[2] for row in theirs], rel=tolerance)
    weights, expected = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (out, from_one))
    for name, weight in expected.items():
        assert torch.allclose(weights[name], weight, atol=tolerance, rtol=0.0), name
    assert max(float(weight.abs().max()) for name, weight in expected.items() if "lora_B" in name) > 10 * tolerance


@slow
def test_two_processes_make_what_one_makes_with_twice_the_accumulation(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    ended = launch(["run", str(recipe), "--out", str(tmp_path / "two")])
    assert [one.code for one in ended] == [0, 0], ended
    assert "Wrote" in ended[0].output
    assert "Wrote" not in ended[1].output
    made = finetune.run(recipe, tmp_path / "one")
    refuse_difference(tmp_path / "two", tmp_path / "one")
    # They are the same training, so the other one is used again.
    assert finetune.run(recipe, tmp_path / "two").variants[-1].merge_strategy == made.variants[-1].merge_strategy
    assert made.training["steps"] == 12


@slow
def test_two_processes_train_every_seed(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, quantization="none")
    ended = launch(["run", str(recipe), "--out", str(tmp_path / "two"), "--seeds", "2"])
    assert [one.code for one in ended] == [0, 0], ended
    finetune.train(recipe, tmp_path / "one")
    refuse_difference(tmp_path / "two", tmp_path / "one")
    later = load_file(tmp_path / "two" / "adapter-seed43" / "adapter_model.safetensors")
    first = load_file(tmp_path / "two" / "adapter" / "adapter_model.safetensors")
    assert max(float((weight - first[name]).abs().max()) for name, weight in later.items()) > 0.01


@slow
def test_a_training_that_lost_a_process_continues_with_another_number_of_them(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, quantization="none")
    arguments = ["train", str(recipe), "--out", str(tmp_path / "lost")]
    ended = launch(arguments, before=("", dies_after(steps=7)))
    assert ended[1].code == 9
    assert ended[0].code == 4
    assert "lost another process of this training" in ended[0].output
    assert not (tmp_path / "lost" / "adapter").exists()
    finetune.train(recipe, tmp_path / "lost")
    finetune.train(recipe, tmp_path / "one")
    refuse_difference(tmp_path / "lost", tmp_path / "one")
    assert losses(tmp_path / "lost")[0][0] == 1  # the curve from before is kept


@slow
def test_shares_of_the_weights_make_what_one_process_makes(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, quantization="none")
    arguments = ["run", str(recipe), "--out", str(tmp_path / "two"), "--set", "parallel=fsdp"]
    ended = launch(arguments, before=(SHARES_ON_CPUS, SHARES_ON_CPUS))
    assert [one.code for one in ended] == [0, 0], ended
    assert "Sharing weights on the CPU" in ended[0].output
    finetune.train(recipe, tmp_path / "one")
    refuse_difference(tmp_path / "two", tmp_path / "one")


# accelerate shares weights on accelerators only. Told that it may on CPUs as well, it goes the same way there.
SHARES_ON_CPUS = """
from accelerate import state
from accelerate.utils import DistributedType
from finetune import options
plain = state.AcceleratorState.__init__
def init(self, *args, fsdp_plugin=None, **named):
    plain(self, *args, fsdp_plugin=fsdp_plugin, **named)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.fsdp_plugin = fsdp_plugin
        self.distributed_type = state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        print("Sharing weights on the CPU")
state.AcceleratorState.__init__ = init
shared = options._shared
options._shared = lambda recipe, device, processes: shared(recipe, "cuda", processes)
"""


@slow
def test_a_training_that_is_not_shared_waits_for_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path, quantization="none")
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "1")  # where nobody can listen
    assert (finetune.train(recipe, tmp_path / "out") / "adapter_config.json").is_file()


@two_gpus
@pytest.mark.parametrize(("parallel", "quantization"), [("ddp", "nf4"), ("fsdp", "none")])
def test_two_gpus_train_what_one_trains(tmp_path: Path, parallel: str, quantization: str) -> None:
    changes = {"device": "cuda", "dtype": "bfloat16", "quantization": quantization}
    recipe = recipe_of(tmp_path, training={**TRAINING, "gradient_checkpointing": True}, **changes)
    ended = launch(["run", str(recipe), "--out", str(tmp_path / "two"), "--set", f"parallel={parallel}"])
    assert [one.code for one in ended] == [0, 0], ended
    finetune.train(recipe, tmp_path / "one")
    refuse_difference(tmp_path / "two", tmp_path / "one", tolerance=1e-3)


def dies_after(*, steps: int) -> str:
    """Return code that ends its process without a word in the middle of the training."""
    return f"""
import os
from finetune.checkpoints import CheckpointSeals
def die(self, args, state, *others, **named):
    if state.global_step == {steps}:
        os._exit(9)
CheckpointSeals.on_step_end = die
"""


@slow
def test_the_others_end_when_rank_0_fails_while_they_train(tmp_path: Path) -> None:
    fails = """
from finetune.curves import TrainingLog
from harness.errors import InputError
def fail(*args, **kwargs):
    raise InputError("the disk is full")
TrainingLog.on_log = fail
"""
    recipe = recipe_of(tmp_path, quantization="none")
    ended = launch(["train", str(recipe), "--out", str(tmp_path / "out")], before=(fails, ""))
    assert [one.code for one in ended] == [2, 4], ended
    assert "the disk is full" in ended[0].output
    assert "Rank 1 of 2 lost another process" in ended[1].output


@slow
def test_the_others_end_when_rank_0_does_not_begin_and_nothing_is_made(tmp_path: Path) -> None:
    recipe, out = recipe_of(tmp_path), tmp_path / "out"
    out.mkdir()
    with locked(out / ".finetune.lock", "busy"):
        ended = launch(["run", str(recipe), "--out", str(out)])
    assert [one.code for one in ended] == [2, 4], ended
    assert "Another run is writing to" in ended[0].output
    assert [path.name for path in out.iterdir()] == [".finetune.lock"]


@slow
def test_batches_that_cannot_be_shared_are_refused_once(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, training={**TRAINING, "gradient_accumulation_steps": 1})
    ended = launch(["run", str(recipe), "--out", str(tmp_path / "out")])
    assert [one.code for one in ended] == [2, 4], ended
    assert "2 processes cannot share 1 batches a step" in ended[0].output
    assert not (tmp_path / "out").exists()


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({"base": "tiny", "quantization": "none", "dtype": "float32", **changes})


def test_accumulated_batches_are_shared_out() -> None:
    whole = recipe(training={"gradient_accumulation_steps": 6, "per_device_train_batch_size": 2})
    with environment(alone=True):
        config = training_config(whole, "x", device="cpu", evaluate=False, processes=3)
    assert (config.gradient_accumulation_steps, config.per_device_train_batch_size) == (2, 2)


def test_a_refusal_names_the_same_training_that_can_be_shared() -> None:
    with pytest.raises(
        InputError, match="Set a multiple of 4: 4 and per_device_train_batch_size: 6 are the same training"
    ):
        training_config(
            recipe(training={"gradient_accumulation_steps": 3, "per_device_train_batch_size": 8}),
            "x",
            device="cpu",
            evaluate=False,
            processes=4,
        )


@pytest.mark.parametrize(
    ("changes", "processes", "device", "says"),
    [
        ({"parallel": "fsdp"}, 1, "cuda:0", "but there is one. Start them with"),
        ({"parallel": "fsdp", "training": {"gradient_accumulation_steps": 2}}, 2, "cpu", "needs GPUs"),
        ({"training": {"train_sampling_strategy": "group_by_length"}}, 2, "cpu", "drawn at random"),
        ({"training": {"fsdp": True}}, 1, "cpu", "use the recipe's 'parallel'"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    changes: dict[str, Any], processes: int, device: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        training_config(recipe(**changes), "x", device=device, evaluate=False, processes=processes)


def test_shares_of_4_bit_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="'fsdp' needs 'quantization: none'"):
        recipe(parallel="fsdp", quantization="nf4")


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match="cuda:0 names one GPU for 2 processes"), joined("cuda:0"):
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="Process 1 of this host has no GPU: torch sees 1"), joined("auto"):
        pass


def test_a_single_process_leads_without_a_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as ranks:
        assert ranks is ALONE
        assert ranks.lead(lambda: 7) == 7
        ranks.ask(print, "nobody")


def test_training_alone_does_not_see_the_launcher_and_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with environment(alone=True):
        assert "WORLD_SIZE" not in os.environ
        os.environ["ACCELERATE_USE_FSDP"] = "true"
    assert os.environ["WORLD_SIZE"] == "2"
    assert "ACCELERATE_USE_FSDP" not in os.environ

"""Run the commands that read a run folder, in an environment without torch: ``python .ci/core_commands.py``.

Fails where one of them fails, imports what only the extras bring, or does not name the extra that it needs.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "run"
SCRIPTS = Path(sysconfig.get_path("scripts"))
THRESHOLDS = """
version: 1
candidate: adapter
defaults: {min_samples: 5, min_coverage: 0.9}
checks:
  - {id: no-nonsense, metric: quality.nll, max: 100}
"""


def main() -> None:
    """Run the commands that need no extra on the golden run, and those that name the extra they lack."""
    for package in ("torch", "transformers", "pandas", "datasets"):
        if importlib.util.find_spec(package) is not None:
            raise SystemExit(f"{package} is installed here: this is not the core alone.")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        shutil.copytree(GOLDEN, here / "run")
        (here / "thresholds.yaml").write_text(THRESHOLDS)
        replies = [json.loads(line) for line in (GOLDEN / "replies" / "base.jsonl").read_text().splitlines()]
        references = [json.loads(line)["reference"] for line in (GOLDEN / "dialogues.jsonl").read_text().splitlines()]
        with (here / "base.jsonl").open("w") as file:
            for row, reference in zip(replies, references, strict=True):
                row = {"id": row["id"], "reference": reference, "reply": row["reply"] or ""}
                file.write(json.dumps(row) + "\n")
        command(here, 0, "harness --help")
        command(here, 0, "harness --version")
        command(here, 0, "harness gate --help")
        command(here, 0, "harness gate run --thresholds thresholds.yaml")
        command(here, 0, "harness report run --redact-text --out page.html")
        command(here, 0, "harness compare run run")
        command(here, 0, "harness leaderboard . --out board.html --out board.csv")
        command(here, 0, "harness score --replies base=base.jsonl --out scored")
        command(here, 0, "harness report scored")
        command(here, 0, "harness thresholds init run --out first.yaml")
        command(here, 0, "harness thresholds diff thresholds.yaml first.yaml")
        command(here, 0, "harness baseline accept run --name main --reason tried --force")
        command(here, 0, "harness baseline show")
        command(here, 0, "harness baseline history main --out history.html")
        command(here, 0, "harness metrics")
        command(here, 0, "harness export run --to model-card --out card.md")
        command(here, 0, "harness export run --to lm-eval")
        command(here, 0, "harness export run --to github-action-benchmark")
        command(here, 2, "harness export run --to mlflow", "comes with the extra 'export'")
        command(here, 0, "finetune --help")
        command(here, 2, "harness run", "needs the extra 'run'")
        command(here, 2, "finetune run", "needs the extra 'train'")


def command(folder: Path, code: int, line: str, says: str = "") -> None:
    """Run a command; fail unless it ends with ``code`` and its output contains ``says``."""
    program, *arguments = line.split()
    done = subprocess.run([SCRIPTS / program, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    if done.returncode != code or says not in said or "Traceback" in said:
        raise SystemExit(f"{line}: exit code {done.returncode}, expected {code}.\n{said}")
    print(f"ok  {line}", flush=True)


if __name__ == "__main__":
    main()

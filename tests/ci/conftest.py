"""A repository with a finished run, cloned from an origin whose branch ``main`` it is merged into."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.store.baselines import Baselines
from tests.run_folders import make_run, random_values

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [
    {"id": "no-nonsense", "metric": "quality.nll", "max": 100},
    {"id": "no-worse", "metric": "quality.nll", "non_inferiority": {"margin": 0.05}, "against": {"baseline": "main"}},
]

# In place of an interpreter: "python -m venv FOLDER" makes a pip that notes what it is to install, and this harness.
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 9
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "$@" >> %s\\n' {installed} > "$3/bin/pip"
printf '#!/bin/sh\\nPYTHONPATH=%s exec %s -m harness "$@"\\n' {root} {python} > "$3/bin/harness"
chmod +x "$3/bin/pip" "$3/bin/harness"
"""


@dataclass
class Checkout:
    """A clone of ``origin``, and the environment that a CI gives its jobs."""

    root: Path
    origin: Path
    environment: dict[str, str]

    @property
    def run(self) -> Path:
        return self.root / "runs" / "today"

    @property
    def installed(self) -> str:
        return (self.root.parent / "installed").read_text()

    def accept(self, *, better_by: float = 0.0) -> None:
        """Commit an accepted run to the origin's main, whose adapter is better than the clone's by so many nats."""
        other = self.root.parent / "other"
        git(self.root.parent, "clone", "--quiet", str(self.origin), str(other))
        accept(self.root.parent / "accepted", other, better_by)
        git(other, "push", "--quiet", "origin", "main")

    def bash(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script as GitHub's ``shell: bash`` and GitLab's runners do."""
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )


def accept(run: Path, repository: Path, better_by: float = 0.0) -> None:
    """Make a run like the clone's, accept it as the baseline ``main`` of a repository, and commit that."""
    values = random_values()
    noise = np.random.default_rng(1).normal(-better_by, 0.02, len(values["adapter"]["quality.nll"]))
    nll = values["adapter"]["quality.nll"]
    values["adapter"]["quality.nll"] = [(value or 0) + float(other) for value, other in zip(nll, noise, strict=True)]
    Baselines(repository / "baselines").accept(make_run(run, values).root, "main", "for a test")
    git(repository, "add", "baselines")
    git(repository, "commit", "--quiet", "--message", "accept")


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=tester", "-c", "user.email=tester@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that is copied, because making one takes longer than all git commands together."""
    return make_run(tmp_path_factory.mktemp("made") / "today").root


@pytest.fixture
def checkout(tmp_path: Path, made: Path) -> Checkout:
    origin, first, root = tmp_path / "origin.git", tmp_path / "first", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", str(origin))
    git(tmp_path, "init", "--quiet", str(first))
    thresholds = {"version": 1, "candidate": "adapter", "defaults": {"min_samples": 5}, "checks": CHECKS}
    (first / "thresholds.yaml").write_text(yaml.safe_dump(thresholds))
    git(first, "add", "--all")
    git(first, "commit", "--quiet", "--message", "begin")
    git(first, "push", "--quiet", str(origin), "HEAD:main")
    git(tmp_path, "clone", "--quiet", "--depth=1", "--branch=main", origin.as_uri(), str(root))
    shutil.copytree(made, root / "runs" / "today")
    programs = tmp_path / "programs"
    programs.mkdir()
    python = programs / "python"
    words = {"installed": tmp_path / "installed", "root": ROOT, "python": sys.executable}
    python.write_text(PYTHON.format(**{key: shlex.quote(str(word)) for key, word in words.items()}))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "LC_ALL", "OMP_NUM_THREADS") if key in os.environ}
    return Checkout(root, origin, {**kept, "PATH": f"{programs}:{os.environ['PATH']}"})

"""Without torch, only the tests of what needs none are collected."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["backends", "end_to_end", "finetune", "passes"]

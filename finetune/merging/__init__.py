"""Merging an adapter into its base, in a way that can be proven: streamed, checked, and with its own error measured."""

from __future__ import annotations

from finetune.merging.merge import MergeOptions, merge_adapter

__all__ = ["MergeOptions", "merge_adapter"]

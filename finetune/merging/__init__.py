"""Merges an adapter into its base: streamed, checked, and with its error measured."""

from finetune.merging.merge import MergeOptions, merge_adapter

__all__ = ["MergeOptions", "merge_adapter"]

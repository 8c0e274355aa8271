"""Synthetic medical dialogues and reading matter, made from one table of conditions, so nothing need be fetched."""

from finetune.synthetic.conditions import Condition, Treatment, load_conditions
from finetune.synthetic.dialogues import synthetic_dialogues, write_dialogues
from finetune.synthetic.documents import pretraining_documents

__all__ = [
    "Condition",
    "Treatment",
    "load_conditions",
    "pretraining_documents",
    "synthetic_dialogues",
    "write_dialogues",
]

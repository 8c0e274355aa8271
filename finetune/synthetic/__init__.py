"""Synthetic medical dialogues and pretraining texts, generated from one table of conditions without downloads."""

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

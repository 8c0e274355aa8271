"""The headline below the decision: form or closeness of the replies, safety rules, the best of several.

A loss on another held-out set begins the second sentence.
"""

from __future__ import annotations

from reports.contenders import best_contender
from reports.decision import Decision
from reports.form_sentence import form_sentence
from reports.further_sets import losses
from reports.rules import lowered, risen
from reports.verdict_sentence import gaps, merge, opened, quality, safety
from reports.view import RunView
from reports.words import listed


def headline(view: RunView, decided: Decision) -> str:
    """Return up to three sentences on what the decision rests on; numbers that it names are not repeated."""
    form = form_sentence(view, decided.reason)
    close = "; ".join(clause for clause in (quality(view), "" if form else merge(view)) if clause)
    first, second = (form, close) if form else (close, _rules(view, decided))
    gap = gaps(view)
    parts = [first, "; ".join(clause for clause in (losses(view), second, gap) if clause), best_contender(view)]
    return " ".join(f"{opened(view, part)}." for part in parts if part)


def _rules(view: RunView, decided: Decision) -> str:
    rules = risen(view)
    if not rules:
        return safety(view)
    further = [rule.words for rule in rules if lowered(rule.label) not in decided.reason]
    if not further:
        return "no other safety rule is proven to fire more often"
    shown = further[:2]
    return listed(shown) + (f"; {len(further) - 2} more rules fire more often" if len(further) > 2 else "")

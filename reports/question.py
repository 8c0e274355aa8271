"""What a person asked in a prompt: its text without the words that the template puts around every dialogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_ENDS = ("\n", ". ", ": ", "] ", "]", ">")  # behind these, an opening may end
_STARTS = ("\n", "<", " [", "[")  # with these, a closing may begin


@dataclass(frozen=True)
class Frame:
    """The opening and the closing that all prompts of a run share; both are empty if nothing can be known."""

    opening: str = ""
    closing: str = ""

    def question(self, prompt: str) -> str:
        """Return what stands between them, or the prompt itself if that is nothing."""
        inner = prompt.removeprefix(self.opening).removesuffix(self.closing).strip()
        return inner or prompt


def frame(prompts: Iterable[str]) -> Frame:
    """Return what all prompts begin and end with, up to the end of a line or a mark of the template.

    The opening may end with a sentence, too. The closing may not: many questions end with the same one.

    A single prompt shares everything with itself, so that nothing of it is known to be the template's.
    """
    forwards, backwards = _Ends(), _Ends()
    for prompt in prompts:
        forwards.add(prompt)
        backwards.add(prompt[::-1])
    if forwards.first == forwards.last:
        return Frame()
    opening, closing = forwards.shared(), backwards.shared()[::-1]
    ends = [opening.rfind(mark) + len(mark) for mark in _ENDS if mark in opening]
    starts = [closing.find(mark) for mark in _STARTS if mark in closing]
    return Frame(opening[: max(ends, default=0)], closing[min(starts) :] if starts else "")


class _Ends:
    """The first and the last of many texts in their order: all texts begin with what these two begin with."""

    first: str | None = None
    last: str | None = None

    def add(self, text: str) -> None:
        if self.first is None or text < self.first:
            self.first = text
        if self.last is None or text > self.last:
            self.last = text

    def shared(self) -> str:
        """Return the longest text that all of them begin with."""
        first, last = self.first or "", self.last or ""
        same = next((k for k, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
        return first if same is None else first[:same]

"""How much longer a run takes, from what it has done so far.

Prompts and references are read in batches, so reading costs seconds a token. Replies are written a token a step, all
rows at once, so writing costs seconds a step, however many rows there are. Both are measured on this run's own events;
nothing is run for the forecast's sake. How long replies get is unknown until they end: the chance that a token ends one
is what the replies so far say, those still being written included, or the short ones, which end first, would mislead.

A variant not begun takes as long as those that a pass has finished. A pass not begun takes what reading costs, if all
it does is read; a pass of which nothing is known yet is left out, and ``unknown`` names it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

KEPT = 0.25  # seconds that the words for the terminal are kept
RECENT = 64  # steps are timed over this many replies
AT_ONCE = 64  # replies written at once, where a backend does not say which prompts it has read
SAME_BATCH = 0.002  # results that arrive within so many seconds of each other are of one batch
# Writing a token in a step of many rows against reading it: 2.1 (7 M parameters, CPU), 2.3 (7 B, H100, 213 rows).
WRITTEN_TO_READ = 2.0


@dataclass(frozen=True)
class Work:
    """What a pass does for one variant. ``read``: tokens of prompts and references, as often as a model reads them.

    ``longest`` is the limit of a reply's tokens, 0 if none are written. A pass that counts only requests, such as the
    memory pass with its processes, has no tokens.
    """

    requests: int
    read: int = 0
    longest: int = 0


@dataclass
class _Stage:
    """One variant in one pass, under way. Times are the clock's, in seconds."""

    work: Work
    began: float
    first: float | None = None  # when the first batch was done
    last: float = 0.0
    requests: int = 0
    read: int = 0
    batches_seconds: float = 0.0  # of the batches between the first, which waits for loading, and the last
    batches_read: int = 0
    batch_seconds: float = 0.0  # of the last, which may not be complete
    batch_read: int = 0
    asked: list[float] = field(default_factory=list)  # when each request that has no reply yet was read
    replies: int = 0
    ended: int = 0  # replies that ended before their limit
    written: int = 0


def duration(seconds: float) -> str:
    """Return seconds in readable form: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def seconds_a_step(stamps_ns: Sequence[int]) -> float | None:
    """Return the median time between a reply's tokens; None for fewer than two."""
    gaps = [after - before for before, after in pairwise(stamps_ns)]
    return statistics.median(gaps) / 1e9 if gaps else None


class TimeLeft:
    """The run's clock: passes say what they are to do and what they have done, the terminal asks what is left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, processes: int = 1) -> None:
        self._clock = clock
        self._processes = processes  # which share the work that passes state
        self._ahead: dict[tuple[str, str], int] = {}  # pass and variant, with the tokens each request is read
        self._plans: dict[str, Work] = {}
        self._took: dict[str, list[float]] = {}  # seconds by pass, for each request
        self._now: tuple[str, str] | None = None
        self._stage = _Stage(Work(0), 0.0)
        self._seconds_a_token: float | None = None
        self._only_first = False  # it is of a first batch, with loading
        self._words, self._words_at = "", 0.0
        self._rows = 1  # replies written at once
        self._steps: deque[float] = deque(maxlen=RECENT)

    def expect(self, one: str, reads: Mapping[str, int]) -> None:
        """A pass is to come. ``reads``: by variant, how often it reads each reference; 0 if it does other things."""
        self._ahead |= {(one, variant): often for variant, often in reads.items()}

    def covered(self, one: str) -> None:
        """What a pass would do is being done by the one under way."""
        self._ahead = {key: reads for key, reads in self._ahead.items() if key[0] != one}

    def over(self, one: str) -> None:
        """A pass has done all it had to do."""
        self.end()
        self.covered(one)

    def words(self) -> str:
        """Return the time left in words, for the terminal; empty before it is known.

        They are asked for at every record, so they are kept for a moment: a run must not wait for its forecast.
        """
        now = self._clock()
        if not self._words or now - self._words_at >= KEPT:
            seconds, unknown = self.seconds(), self.unknown
            without = f", without {' and '.join(unknown)}" if unknown else ""
            self._words = "" if seconds is None else f"about {duration(seconds)} left{without}"
            self._words_at = now
        return self._words

    def begin(self, one: str, variant: str, work: Work) -> None:
        """A pass begins with a variant, or with all of its variants together; ``work`` is what is unfinished."""
        self.end()
        for key in [key for key in self._ahead if key[0] == one]:  # those before it had nothing to do
            del self._ahead[key]
            if key[1] == variant:
                break
        if self._processes > 1:
            work = replace(work, requests=-(-work.requests // self._processes), read=work.read // self._processes)
        self._now, self._stage = (one, variant), _Stage(work, self._clock())
        self._plans.setdefault(one, work)

    def end(self) -> None:
        """The pass is done with the variant."""
        if self._now is not None and self._stage.requests:
            took = (self._clock() - self._stage.began) / self._stage.requests
            self._took.setdefault(self._now[0], []).append(took)
        self._now = None

    def done(self, requests: int = 1, read: int = 0) -> None:
        """Requests are finished, for which so many tokens were read."""
        stage, now = self._stage, self._clock()
        stage.requests += requests
        self._read(stage, read, now)

    def asked(self, read: int) -> None:
        """A prompt was read, with its reference, and its reply is being written from now on."""
        stage, now = self._stage, self._clock()
        self._read(stage, read, now)
        stage.asked.append(now)
        self._rows = max(self._rows, len(stage.asked))

    def replied(self, tokens: int, ended: bool, step: float | None) -> None:
        """A reply is finished. ``ended``: before its limit; ``step``: the seconds between its tokens, if it has two."""
        stage, now = self._stage, self._clock()
        stage.requests, stage.replies = stage.requests + 1, stage.replies + 1
        stage.ended += ended
        stage.written += tokens
        if stage.asked:
            stage.asked.pop(0)
        if step is not None:
            self._steps.append(step)
        stage.first = now if stage.first is None else stage.first
        stage.last = now

    def seconds(self) -> float | None:
        """Return the seconds left of the whole run; None before the first batch is done."""
        stage = self.of_stage()
        if stage is None and self._now is not None and (whole := self._expected(self._now[0], self._stage.work.read)):
            stage = max(0.0, whole - (self._clock() - self._stage.began))
        known = [seconds for key in self._ahead if (seconds := self._ahead_seconds(*key)) is not None]
        if stage is None and (self._now is not None or not known):
            return None
        return (stage or 0.0) + sum(known)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The passes ahead that nothing is known of."""
        return tuple(dict.fromkeys(key[0] for key in self._ahead if self._ahead_seconds(*key) is None))

    def of_stage(self) -> float | None:
        """Return the seconds left of the variant under way; None before its first batch is done."""
        stage = self._stage
        if self._now is None or stage.first is None:
            return None
        since = self._clock() - stage.last  # what is left shrinks between two events
        return max(0.0, self._left(stage) - since)

    def _read(self, stage: _Stage, tokens: int, now: float) -> None:
        """Count tokens that were read, and time reading by whole batches; once replies end, steps come in between."""
        stage.read += tokens
        if stage.first is None:
            stage.first = now
        elif not stage.replies:
            if now - stage.last > SAME_BATCH:
                stage.batches_seconds += stage.batch_seconds
                stage.batches_read += stage.batch_read
                stage.batch_seconds, stage.batch_read = now - stage.last, 0
            stage.batch_read += tokens if stage.batch_seconds else 0
        if stage.batches_read:
            self._seconds_a_token = stage.batches_seconds / stage.batches_read
        elif stage.read and (self._seconds_a_token is None or self._only_first):
            self._seconds_a_token, self._only_first = (now - stage.began) / stage.read, True
        self._only_first = self._only_first and not stage.batches_read
        stage.last = now

    def _left(self, stage: _Stage) -> float:
        work = stage.work
        if work.read:
            unread = work.read - (stage.read or work.read * stage.replies // max(1, work.requests))
            reading = (self._seconds_a_token or 0.0) * max(0, unread)
            return reading + (self._writing(stage) if work.longest else 0.0)
        if not stage.requests:
            return 0.0
        return (stage.last - stage.began) / stage.requests * (work.requests - stage.requests)

    def _writing(self, stage: _Stage) -> float:
        """Return the seconds that the replies still to be written take."""
        longest, unfinished = stage.work.longest, max(0, stage.work.requests - stage.replies)
        told = bool(stage.read)  # which prompts were read; otherwise only finished replies are seen
        rows = self._rows if told else min(AT_ONCE, stage.work.requests)
        waiting = unfinished - (len(stage.asked) if told else min(rows, unfinished))
        if not unfinished:
            return 0.0
        step = statistics.median(self._steps) if self._steps else None
        if step is None:
            step = WRITTEN_TO_READ * rows * (self._seconds_a_token or 0.0)
        if step <= 0:  # all that is known arrived within one tick of the clock
            return 0.0
        if told:
            lengths = [min(longest, (stage.last - asked) / step) for asked in stage.asked]
        else:
            lengths = [min(longest / 2, (stage.last - stage.began) / step)] * min(rows, unfinished)
        tokens = stage.written + sum(lengths)
        chance = stage.ended / tokens if tokens else 0.0
        queued = max(0, waiting - (rows - len(lengths))) * _mean_length(chance, longest) / rows
        last = min(rows, unfinished)
        tail = min(longest, (math.log(last) + 0.6) / chance) if chance else longest
        if not waiting:
            tail = min(tail, longest - min(lengths))
        return step * (queued + tail)

    def _ahead_seconds(self, one: str, variant: str) -> float | None:
        """Return the seconds of a pass with a variant that has not begun."""
        if self._now and self._now[0] == one and one not in self._took and (left := self.of_stage()) is not None:
            return self._clock() - self._stage.began + left
        read = max((plan.read for plan in self._plans.values()), default=0) * self._ahead[one, variant]
        return self._expected(one, read)

    def _expected(self, one: str, read: int) -> float | None:
        """Return the seconds of a pass with one variant, from those it is done with or the tokens it reads."""
        if took := self._took.get(one):
            return statistics.mean(took) * self._plans[one].requests
        return read * self._seconds_a_token if read and self._seconds_a_token else None


def _mean_length(chance: float, longest: int) -> float:
    """Return the mean length of a reply that each token ends with this chance, and the limit in any case."""
    return longest if not chance else (1 - (1 - chance) ** longest) / chance

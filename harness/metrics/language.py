"""In which script a text is written, and whether it is English: what a rule or a tokeniser must know before it reads.

Scripts come from the names of the Unicode characters ("CYRILLIC SMALL LETTER A"). English is told from other languages
in Latin letters by its function words; a text of a few words counts as English unless the words of another language
stand in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache, lru_cache

SAMPLE = 4000  # characters whose scripts are counted; more do not change the answer
PROSE = 400  # characters whose words are; a list of links or findings may follow
MOSTLY_LATIN = 0.8
ENOUGH_WORDS = 8  # from which a text without English function words is not English
FEWEST_ENGLISH = 0.08  # share of words; in English prose it is about a half, in a list of findings a tenth
LETTER = re.compile("[A-Za-z]")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
ASCII_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")  # the same in lower-case ASCII, in a fifth of the time


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENGLISH = _words(
    "the and of to is are was were so be been with for your you this that these those it its or have has had can if "
    "not from by take takes taking should may might will would my i'm i've don't any but when what how which who does "
    "did at about there they she his her their our we them than then because after before also more "
    "most some other could please help see get go negative positive denies denied pain blood loss left right healthy "
    "daily day days week weeks month months year years old status history disease use used symptoms treatment"
)
# English words that other languages have too; they count only where nothing else is foreign.
SHARED = _words("a an as do he i in me no on")
# Words of German, Spanish, French, Italian, Portuguese and Dutch that are no English words.
FOREIGN = (
    _words(
        "der das und ist nicht ein eine einen sie mit für auf dem den zu bei auch oder wenn ich haben sind wird "
        "zum zur im el los las del una por es está su sus y si usted tiene puede más pero como "
        "le les des du et est une pour dans vous votre avec pas sur ou vos ce cette il elle sont au aux "
        "lo gli di che è sono nel della dei può anche questo "
        "o e se os um uma não você seu sua em da dos das ao são "
        "het een en van niet voor met zijn op uw te aan bij ook maar wordt"
    )
    - ENGLISH
    - SHARED
)


def script(text: str) -> str | None:
    """Return the script of most letters of a text ("latin", "cjk", "arabic", ...); None without letters."""
    found = _scripts(text[:SAMPLE])
    return max(found, key=found.__getitem__) if found else None


@lru_cache(maxsize=32)
def is_english(text: str) -> bool:
    """Return whether English rules can read a text; one without letters ("911") has nothing that they could misread."""
    sample = text[:SAMPLE]
    found = _scripts(sample)
    if not found:
        return True
    if found["latin"] < MOSTLY_LATIN * found.total():
        return False
    prose = sample[:PROSE].lower().replace("’", "'")
    words = (ASCII_WORD if prose.isascii() else WORD).findall(prose)
    english = sum(map(ENGLISH.__contains__, words))
    foreign = sum(map(FOREIGN.__contains__, words))
    accented = not all(map(str.isascii, words))
    if foreign > max(english, 1):
        return False
    if not english and len(words) > 2 and (foreign or accented):
        return False
    if not (foreign or accented):
        english += sum(map(SHARED.__contains__, words))
    return len(words) < ENOUGH_WORDS or english >= FEWEST_ENGLISH * len(words)


def _scripts(text: str) -> Counter[str]:
    """Return how many letters of each script a text has; of a text in ASCII only that they are Latin."""
    if text.isascii():
        return Counter(latin=1) if LETTER.search(text) else Counter()
    return Counter(name for character in text if (name := _script_of(character)))


@cache
def _script_of(character: str) -> str:
    """Return a letter's script, or "" for any other character."""
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "unknown").split()[0].lower()

"""What counts as a word: runs of a-z and 0-9 as in most English papers, or words and characters of any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import islice

from harness.errors import InputError, first_line
from harness.metrics.language import script
from harness.metrics.registry import MetricOptions

LATIN = re.compile(r"[a-z0-9]+")
# Scripts that put no spaces between words: each of their characters counts as a word.
UNSPACED_SCRIPTS = frozenset({"cjk", "hiragana", "katakana", "thai", "lao", "khmer", "myanmar"})
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
SAMPLE = 200  # references whose script decides


class _Separators(dict[int, str]):
    """Maps every character that is no letter, mark or digit to a space; ``str.translate`` looks characters up in it."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = unicodedata.category(character)[0] in "LMN"
        self[code] = character if kept else " "
        return self[code]


_SEPARATORS = _Separators()


def latin_words(text: str) -> list[str]:
    """Return the runs of a-z and 0-9 of a text in lower case, as rouge_score does."""
    return LATIN.findall(text.lower())


def unicode_words(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters, marks and digits, or single characters of a script
    without spaces."""
    return _TOKEN.findall(text.lower().translate(_SEPARATORS))


def is_empty(text: str) -> bool:
    """Return whether a text has not a single letter or digit."""
    return not any(character.isalnum() for character in text)


def words_of(kind: str) -> Callable[[str], list[str]]:
    """Return the function that splits a text; ``auto`` is ``latin`` until the texts are known."""
    return unicode_words if kind == "unicode" else latin_words


def unreadable(text: str, kind: str) -> bool:
    """Return whether a text has letters, of which ``kind`` of words would see none or few."""
    return kind != "unicode" and script(text) not in (None, "latin")


def for_texts(options: MetricOptions, texts: Iterable[str]) -> MetricOptions:
    """Return the options with ``auto`` replaced by what suits the script of most of the texts."""
    scripts = [found for text in islice(texts, SAMPLE) if (found := script(text)) is not None]
    main = max(dict.fromkeys(scripts), key=scripts.count) if scripts else "latin"
    japanese = main in ("hiragana", "katakana") or (
        main == "cjk" and any(name in ("hiragana", "katakana") for name in scripts)
    )
    changes: dict[str, object] = {}
    if options.words == "auto":
        changes["words"] = "latin" if main == "latin" else "unicode"
    if options.bleu_tokenizer == "auto":
        changes["bleu_tokenizer"] = _bleu_tokenizer(main, japanese)
    return options.model_copy(update=changes)


def _bleu_tokenizer(main: str, japanese: bool) -> str:
    if japanese:
        return "ja-mecab" if find_spec("MeCab") and find_spec("ipadic") else "char"
    if main == "cjk":
        return "zh"
    return "char" if main in UNSPACED_SCRIPTS else "13a"


@cache
def sacrebleu_tokenizer(name: str) -> Callable[[str], Sequence[str]]:
    """Return one of sacrebleu's tokenizers; raise InputError if it needs a package or a file that is not there."""
    from sacrebleu.metrics.bleu import BLEU

    try:
        tokenize = BLEU(tokenize=name).tokenizer
    except (ImportError, RuntimeError, OSError, ValueError) as error:
        raise InputError(
            f"metric_options.bleu_tokenizer: sacrebleu cannot make its tokenizer '{name}' ({first_line(error)}). "
            "Install what it names, or choose 'char'."
        ) from error
    return lambda text: tokenize(text.rstrip()).split()

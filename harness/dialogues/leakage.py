"""Detects held-out dialogues that were trained on, from fingerprints and without the training data.

Stored beside an adapter, for each dialogue it was trained on: the hash of its normalised text (for exact repetition),
the hash of its prompt, the hashes of its 5-word shingles, and their MinHash signature of 128 permutations. Locality-
sensitive hashing over the signatures proposes candidates; the Jaccard index of each candidate is then computed
exactly, from the shingles. No text is stored, but a guess at a dialogue's exact words can be tested.

The bands (25 of 5 rows) favour recall: a pair with Jaccard index 0.8 is missed once in 20,000, a closer one less often.
False candidates cost little, because every candidate is verified.

What more than half of the training dialogues contain (a system prompt, an instruction) says nothing about where a
dialogue comes from. Those shingles are left out before dialogues are compared.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.dialogues.shingles import Shingler, Shingles, jaccard
from harness.dialogues.split import dialogue_hash, prompt_hash
from harness.errors import InputError, first_line
from harness.files import write_bytes_atomically

if TYPE_CHECKING:
    from datasketch import LeanMinHash, MinHashLSH

    from harness.dialogues.model import Dialogue

FILE_NAME = "trained_on.npz"
PERMUTATIONS = 128
THRESHOLD = 0.8
BANDS = (25, 5)

FEWEST = 10  # dialogues: among fewer, "most" may be two repetitions of one

_FORMAT = 1
_SCHEME = "affine32"
_HASH_BYTES = 32
# At the threshold a signature estimates the Jaccard index with a standard error of 0.035: candidates more than five
# standard errors below it are not worth an exact comparison.
_WORTH_VERIFYING = THRESHOLD - 0.2
# What numpy and zipfile raise on damaged files.
_DAMAGE = (
    OSError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_ARRAYS = ("dialogues", "prompts", "signatures", "shingles", "offsets")


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of n dialogues: hashes as bytes (n × 32), signatures (n × 128), and all shingles concatenated.

    Dialogue i has the shingles ``shingles[offsets[i]:offsets[i + 1]]``.
    """

    dialogues: NDArray[np.uint8]
    prompts: NDArray[np.uint8]
    signatures: NDArray[np.uint32]
    shingles: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.dialogues)

    def shingles_of(self, index: int) -> Shingles:
        return self.shingles[self.offsets[index] : self.offsets[index + 1]]

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file atomically."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez(buffer, format=np.array([_FORMAT]), **arrays)
        write_bytes_atomically(path, buffer.getvalue())


@dataclass(frozen=True)
class Near:
    """A held-out dialogue's closest training dialogue: their Jaccard index, and that dialogue's hash."""

    jaccard: float
    trained: str


@dataclass(frozen=True)
class Leaks:
    """The ids of the held-out dialogues that were trained on.

    ``exact`` repeat a training dialogue; ``near`` have a Jaccard index of at least ``THRESHOLD`` with one and are not
    exact. ``same_prompt`` share a prompt with one but not the reply: worth knowing, but not a leak.
    """

    exact: tuple[str, ...] = ()
    near: Mapping[str, Near] | None = None
    same_prompt: tuple[str, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all leaked dialogues, exact and near."""
        return frozenset(self.exact) | frozenset(self.near or {})


def fingerprint(dialogues: Iterable[Dialogue]) -> Fingerprints:
    """Return the fingerprints of dialogues, in order."""
    shingler = Shingler()
    texts, prompts, sets = [], [], []
    for dialogue in dialogues:
        texts.append(bytes.fromhex(dialogue_hash(dialogue)))
        prompts.append(bytes.fromhex(prompt_hash(dialogue)))
        sets.append(shingler.shingles(dialogue))
    count = len(sets)
    return Fingerprints(
        dialogues=np.frombuffer(b"".join(texts), dtype=np.uint8).reshape(count, _HASH_BYTES),
        prompts=np.frombuffer(b"".join(prompts), dtype=np.uint8).reshape(count, _HASH_BYTES),
        **_signed(sets),
    )


def _signed(sets: Sequence[Shingles]) -> dict[str, NDArray[Any]]:
    """Return sets of shingles as arrays, with their signatures."""
    from datasketch import MinHash

    minhashes = MinHash.generator(
        (shingles.tolist() for shingles in sets), num_perm=PERMUTATIONS, scheme=_SCHEME, hashfunc=int
    )
    signatures = [minhash.hashvalues for minhash in minhashes]
    return {
        "signatures": np.array(signatures, dtype=np.uint32).reshape(len(sets), PERMUTATIONS),
        "shingles": np.concatenate(sets) if sets else np.zeros(0, dtype=np.uint32),
        "offsets": np.cumsum([0, *(shingles.size for shingles in sets)], dtype=np.int64),
    }


def load_fingerprints(path: Path) -> Fingerprints:
    """Read what ``Fingerprints.save`` wrote; raise InputError if the file is missing, damaged or incompatible."""
    try:
        with zipfile.ZipFile(path) as file:
            # Read completely, so that the archive's checksum is verified.
            data = {name: io.BytesIO(file.read(f"{name}.npy")) for name in ("format", *_ARRAYS)}
        arrays: dict[str, NDArray[Any]] = {
            name: np.lib.format.read_array(each, allow_pickle=False) for name, each in data.items()
        }
    except FileNotFoundError as error:
        raise InputError(f"There are no training fingerprints at {path}.") from error
    except _DAMAGE as error:
        raise InputError(f"The training fingerprints {path} are damaged ({first_line(error)}).") from error
    if arrays["format"].tolist() != [_FORMAT]:
        raise InputError(f"{path} was written by another version of the harness: train again, or leave the file out.")
    found = Fingerprints(**{name: arrays[name] for name in _ARRAYS})
    problem = _problem(found)
    if problem:
        raise InputError(f"The training fingerprints {path} are damaged ({problem}).")
    return found


def combine(several: Sequence[Fingerprints]) -> Fingerprints:
    """Return the combined fingerprints of several trainings."""
    if len(several) == 1:
        return several[0]
    if not several:
        return fingerprint(())
    starts = np.cumsum([0, *(each.shingles.size for each in several)])
    offsets = [each.offsets[:-1] + start for each, start in zip(several, starts[:-1], strict=True)]
    joined = {name: np.concatenate([getattr(each, name) for each in several]) for name in _ARRAYS[:-1]}
    return Fingerprints(**joined, offsets=np.concatenate([*offsets, starts[-1:]]).astype(np.int64))


def find_leaks(dialogues: Sequence[Dialogue], trained: Fingerprints) -> Leaks:
    """Return which of ``dialogues`` were trained on, exactly or nearly."""
    held_out = fingerprint(dialogues)
    known = {row.tobytes() for row in trained.dialogues}
    known_prompts = {row.tobytes() for row in trained.prompts}
    exact, same_prompt = [], []
    rest: list[int] = []
    for index, dialogue in enumerate(dialogues):
        if held_out.dialogues[index].tobytes() in known:
            exact.append(dialogue.id)
            continue
        rest.append(index)
        if held_out.prompts[index].tobytes() in known_prompts:
            same_prompt.append(dialogue.id)
    common = _in_most(trained)
    if common.size:
        held_out, trained = _without(held_out, common), _without(trained, common)
    near = {dialogues[index].id: found for index, found in _near(held_out, rest, trained).items()}
    return Leaks(tuple(exact), near, tuple(name for name in same_prompt if name not in near))


def _in_most(trained: Fingerprints) -> Shingles:
    """Return the shingles that more than half of the training dialogues have, each counted once if repeated."""
    _, first = np.unique(trained.dialogues, axis=0, return_index=True)
    if len(first) < FEWEST:
        return np.zeros(0, dtype=np.uint32)
    values, counts = np.unique(np.concatenate([trained.shingles_of(each) for each in first]), return_counts=True)
    return values[counts > len(first) / 2]


def _without(fingerprints: Fingerprints, common: Shingles) -> Fingerprints:
    """Return the fingerprints without some shingles; a dialogue that has no others keeps them."""
    sets = []
    for index in range(len(fingerprints)):
        shingles = fingerprints.shingles_of(index)
        own = np.setdiff1d(shingles, common, assume_unique=True)
        sets.append(own if own.size else shingles)
    return replace(fingerprints, **_signed(sets))


def _near(held_out: Fingerprints, indices: Sequence[int], trained: Fingerprints) -> dict[int, Near]:
    """Return, by index, the closest training dialogue at or above the threshold, where there is one."""
    if not indices or not len(trained):
        return {}
    index = _index(trained)
    found = {}
    for query in indices:
        signature = held_out.signatures[query]
        candidates = np.array(sorted(index.query(_minhash(signature))), dtype=np.int64)
        if not candidates.size:
            continue
        shingles = held_out.shingles_of(query)
        sizes = trained.offsets[candidates + 1] - trained.offsets[candidates]
        # The Jaccard index is at most the ratio of the smaller set's size to the larger's.
        possible = np.minimum(sizes, shingles.size) >= THRESHOLD * np.maximum(sizes, shingles.size)
        alike = (trained.signatures[candidates] == signature).mean(axis=1) >= _WORTH_VERIFYING
        best = max(
            ((jaccard(shingles, trained.shingles_of(each)), -each) for each in candidates[possible & alike].tolist()),
            default=(0.0, 0),
        )
        if best[0] >= THRESHOLD:
            found[query] = Near(best[0], trained.dialogues[-best[1]].tobytes().hex())
    return found


def _index(trained: Fingerprints) -> MinHashLSH:
    from datasketch import MinHashLSH

    index = MinHashLSH(num_perm=PERMUTATIONS, params=BANDS)
    with index.insertion_session() as session:
        for number, signature in enumerate(trained.signatures):
            session.insert(number, _minhash(signature), check_duplication=False)
    return index


def _minhash(signature: NDArray[np.uint32]) -> LeanMinHash:
    from datasketch import LeanMinHash

    return LeanMinHash(seed=1, hashvalues=signature, scheme=_SCHEME)


def _problem(found: Fingerprints) -> str | None:
    count = len(found.dialogues)
    expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "dialogues": ((count, _HASH_BYTES), np.uint8),
        "prompts": ((count, _HASH_BYTES), np.uint8),
        "signatures": ((count, PERMUTATIONS), np.uint32),
        "shingles": (found.shingles.shape[:1], np.uint32),
        "offsets": ((count + 1,), np.int64),
    }
    for name, (shape, dtype) in expected.items():
        array = getattr(found, name)
        if array.shape != shape or array.dtype != dtype:
            return f"'{name}' is {array.shape} {array.dtype}"
    if found.offsets[0] != 0 or found.offsets[-1] != found.shingles.size or (np.diff(found.offsets) < 1).any():
        return "'offsets' do not fit 'shingles'"
    return None

"""Ways to damage a file: its bytes, its text, or one value within its JSON or YAML."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import yaml

Damage = Callable[[random.Random, bytes], bytes]

HOSTILE_BYTES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[31m", b"\r", b"\x80", b"\xed\xa0\x80", b"[" * 20_000,
    b'{"a":' * 20_000,
    b"9" * 5_000, b'"', b"{", b"}", b"- ", b": ", b"&a *a", b"!!python/object:os.system", b"\xe2\x80\xae", b",,,;;",
)  # fmt: skip


def hostile_value(random_: random.Random) -> Any:
    """Return a value that a reader may not expect at any place."""
    deep: Any = []
    for _ in range(random_.choice((3, 200, 900))):
        deep = [deep]
    return random_.choice(
        [
            None, True, False, 0, -1, 2**31, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"),
            "", " ", "\x00", "\ud800", "../../outside", "/etc/passwd", "a" * 100_000, "\u202e", "nan", "{{ 1/0 }}",
            [], {}, [None], [[]], {"": ""}, ["q_proj", None], {"$oid": 1}, deep,
        ]
    )  # fmt: skip


def random_bytes(random_: random.Random, data: bytes) -> bytes:
    """Return bytes that have nothing to do with ``data``; nothing can be read from them."""
    return b"\x00\xff" + random_.randbytes(random_.choice((1, 10, 1000, 100_000)))


def flipped(random_: random.Random, data: bytes) -> bytes:
    """Return ``data`` with some bytes replaced."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 3, 30))):
        if changed:
            changed[random_.randrange(len(changed))] = random_.randrange(256)
    return bytes(changed)


def truncated(random_: random.Random, data: bytes) -> bytes:
    """Return a beginning of ``data``."""
    return data[: random_.randrange(len(data) + 1)]


def spliced(random_: random.Random, data: bytes) -> bytes:
    """Return ``data`` with a part cut out, repeated, or replaced by something hostile."""
    start, end = sorted((random_.randrange(len(data) + 1), random_.randrange(len(data) + 1)))
    middle = random_.choice((b"", data[start:end] * 2, random_.choice(HOSTILE_BYTES)))
    return data[:start] + middle + data[end:]


def inserted(random_: random.Random, data: bytes) -> bytes:
    """Return ``data`` with something hostile in it."""
    at = random_.randrange(len(data) + 1)
    return data[:at] + random_.choice(HOSTILE_BYTES) + data[at:]


def changed_json(random_: random.Random, data: bytes) -> bytes:
    """Return JSON, or one line of JSON lines, with one value or key changed."""
    text = data.decode("utf-8")
    try:
        return _dumped(_changed(random_, json.loads(text)))
    except ValueError:
        lines = text.splitlines()
        number = random_.randrange(len(lines))
        lines[number] = _dumped(_changed(random_, json.loads(lines[number]))).decode("utf-8", "surrogatepass")
        return "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")


def changed_yaml(random_: random.Random, data: bytes) -> bytes:
    """Return YAML with one value or key changed (as JSON, which YAML reads)."""
    return _dumped(_changed(random_, yaml.safe_load(data)))


def changed_header(random_: random.Random, data: bytes) -> bytes:
    """Return a safetensors file whose JSON header was changed, its stated length adjusted or not."""
    length = int.from_bytes(data[:8], "little")
    header = _dumped(_changed(random_, json.loads(data[8 : 8 + length])))
    stated = random_.choice((len(header), len(header), length, 2**63, 0))
    return stated.to_bytes(8, "little") + header + data[8 + length :]


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _changed(random_: random.Random, value: Any) -> Any:
    """Return a copy of ``value`` in which one place, found by walking down at random, is changed."""
    if isinstance(value, dict) and value and random_.random() < 0.9:
        key = random_.choice(list(value))
        action = random_.random()
        if action < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        if action < 0.2:
            name = random_.choice(("", "__class__", "a" * 1000, "\x00", f"{key}x", str(key).upper()))
            return {**value, name: hostile_value(random_)}
        return {**value, key: _changed(random_, value[key])}
    if isinstance(value, list) and value and random_.random() < 0.9:
        at = random_.randrange(len(value))
        action = random_.random()
        if action < 0.1:
            return value[:at] + value[at + 1 :]
        if action < 0.2:
            return [*value, value[at]]
        return [*value[:at], _changed(random_, value[at]), *value[at + 1 :]]
    return hostile_value(random_)


ANY_FILE: tuple[Damage, ...] = (random_bytes, flipped, truncated, spliced, inserted)

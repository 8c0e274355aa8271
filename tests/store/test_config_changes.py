"""What differs between two configs, by key."""

from __future__ import annotations

from harness.store.config_changes import config_changes, listed_changes


def texts(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [str(change) for change in config_changes(before, after)]


def test_changes_are_named_by_their_dotted_key() -> None:
    before = {"seed": 42, "generation": {"max_new_tokens": 64, "stop": ["."]}, "passes": ["scoring"]}
    after = {"seed": 42, "generation": {"max_new_tokens": 128, "stop": ["."]}, "passes": ["scoring", "latency"]}
    assert texts(before, after) == [
        "generation.max_new_tokens: 64 → 128",
        'passes: ["scoring"] → ["scoring", "latency"]',
    ]


def test_variants_are_told_apart_by_name_wherever_they_stand() -> None:
    base, adapter = {"name": "base", "dtype": "float32"}, {"name": "adapter", "adapter": "a"}
    after = [adapter | {"adapter": "b"}, base]
    assert texts({"variants": [base, adapter]}, {"variants": after}) == ["variants.adapter.adapter: a → b"]


def test_null_and_absent_are_the_same() -> None:
    assert texts({"limit": None}, {}) == []
    assert texts({}, {"limit": 5}) == ["limit: not set → 5"]
    assert texts({"threads": 2}, {"threads": None}) == ["threads: 2 → not set"]


def test_a_list_and_a_tuple_of_the_same_are_the_same() -> None:
    assert texts({"passes": ["scoring"]}, {"passes": ("scoring",)}) == []


def test_the_values_of_keys_and_passwords_are_not_shown() -> None:
    before: dict[str, object] = {"variants": [{"name": "served", "api_key_env": "A"}], "chat_template": {"token": "s3"}}
    after: dict[str, object] = {"variants": [{"name": "served", "api_key_env": "B"}], "chat_template": {"token": "x9"}}
    assert texts(before, after) == ["variants.served.api_key_env", "chat_template.token"]
    assert texts({"source": "https://me:s3cret@host/a"}, {"source": "https://me:s3cret@host/b"}) == [
        "source: https://…@host/a → https://…@host/b"
    ]
    assert texts({"reply_tokens": 6}, {"reply_tokens": 8}) == ["reply_tokens: 6 → 8"]


def test_long_values_keep_both_ends() -> None:
    (change,) = config_changes({"prompt": "/data/" + "x" * 200 + "/old.jinja"}, {"prompt": "chat"})
    assert len(change.before) <= 60
    assert change.before.startswith("/data/xxx")
    assert change.before.endswith("xxx/old.jinja")


def test_many_changes_are_counted() -> None:
    changes = config_changes({}, dict.fromkeys("abcdefg", 1))
    assert listed_changes(changes, most=2) == "a: not set → 1; b: not set → 1; and 5 more"

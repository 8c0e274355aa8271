"""Absolute paths stay on the machine; what only looks like one is left alone."""

from __future__ import annotations

import pytest

from harness.store.paths import shorten_paths


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("/home/jane/models/base", "base"),
        ("/home/Jane Doe/my models/base/", "base"),
        ("~jane/models/base", "base"),
        (r"C:\Users\jane\config.yaml", "config.yaml"),
        ("The run in /home/jane/runs/a is not complete.", "The run in a is not complete."),
        ("run '/home/Jane Doe/a b.yaml' --set variants=/srv/x/v.json", "run 'a b.yaml' --set variants=v.json"),
        ("see file:///home/jane/page.html", "see page.html"),
        ("PATH=/usr/local/bin:/home/jane/bin", "PATH=bin:bin"),
    ],
)
def test_an_absolute_path_is_shortened_to_its_last_part(text: str, shared: str) -> None:
    assert shorten_paths(text) == shared


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/a/b/c", "org/model", "./runs/a/b", "../../home/a", "tokens/s", "and/or/but", "2025/01/02",
        "[/INST]", "</s>", "<a></a></b>", r"$\frac{1}{2}\alpha\beta$", "N/A", "s3://bucket/a/b",
    ],
)  # fmt: skip
def test_what_is_no_absolute_path_stays(text: str) -> None:
    assert shorten_paths(text) == text

"""The JSON Schema of thresholds files, shipped for editors: ``python -m tests.gating.schema_file`` regenerates it."""

from __future__ import annotations

import json

from harness.gating import policy

PATH = policy.SHIPPED.parent / "schema" / "thresholds.schema.json"


def text() -> str:
    """Return what the file must hold; a test compares them."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **policy.Policy.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")

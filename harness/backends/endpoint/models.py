"""What a server says of the models it serves, and the digest that stands for a served variant's weights."""

from __future__ import annotations

from collections.abc import Sequence

from harness.backends.endpoint.client import Server
from harness.backends.endpoint.errors import RefusedError
from harness.backends.endpoint.wire import ModelList, ServedModel, read
from harness.files import digest_value
from harness.variants.model import Variant


async def listed(server: Server) -> tuple[ServedModel, ...]:
    """Return the models that the server lists; none if it has no list.

    Raises ServerError if it cannot be reached, InputError if it refuses the key.
    """
    try:
        answer = await server.ask("/models", probing=True)
    except RefusedError:  # it is optional, and answers 500 in transformers where no model is cached
        return ()
    return read(ModelList, answer, server).data


def find(models: tuple[ServedModel, ...], name: str) -> ServedModel | None:
    """Return the entry of a model; None if it is not listed."""
    return next((model for model in models if model.id == name), None)


def context_length(models: tuple[ServedModel, ...], name: str) -> int | None:
    """Return the context length of a model, or of the base of an adapter; None if it is not stated."""
    model = find(models, name)
    base = find(models, model.parent) if model and model.parent else None
    return next((one.max_model_len for one in (model, base) if one and one.max_model_len), None)


def digest(variant: Variant, models: tuple[ServedModel, ...]) -> str:
    """Return what stands for the weights: the address, the name, and what the server says of the model.

    Weights replaced under the same name and path are not noticed.
    """
    found = find(models, variant.model)
    return digest_value([variant.url, variant.model, found and found.model_dump(mode="json")])


def digests(variants: Sequence[Variant]) -> dict[str, str]:
    """Return the digests of served variants by name; each server is asked."""
    found = {}
    for variant in variants:
        with Server(variant) as server:
            found[variant.name] = digest(variant, server.run(listed, server))
    return found

"""Limits for templates, which come with models and may do anything: how many steps one takes, and how much it makes.

Jinja's sandbox keeps a template from the machine, but lets it loop for ever and multiply text until memory runs out.
Here every loop announces its items, and every call, filter, concatenation and multiplication is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from harness.files import digest_bytes

MOST_STEPS = 500_000  # items of loops and calls in one rendering: a second or so
LARGEST = 10_000_000  # characters of a text or items of a list; no model reads as much
LONGEST_REPEAT = 100_000  # the largest number that a call or filter is given, such as a width

_COUNTED, _SIZED = "__counted__", "__sized__"


class LimitError(jinja2.TemplateError):
    """A template takes too many steps or makes too much."""


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with limits. Call ``begin`` before each rendering."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])
    steps = 0

    def begin(self) -> None:
        """Start to count again."""
        self.steps = 0

    def take(self, steps: int) -> None:
        """Count steps; raise LimitError if they are too many."""
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise LimitError(f"it takes more than {MOST_STEPS:,} steps")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute ``left operator right`` if the result cannot be too large."""
        if operator == "*":
            _check_product(left, right)
        if operator == "**":
            _check_power(left, right)
        if operator == "%" and isinstance(left, str | bytes) and re.search(r"\d{6}|\*", str(left)):
            raise LimitError("it makes a text that is too long")
        return _sized(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, *arguments: Any, **named: Any) -> Any:
        """Call something from a template."""
        self.take(1)
        _check_numbers((*arguments, *named.values()))
        return _sized(super().call(context, obj, *arguments, **named))

    def limited(self, source: str) -> jinja2.Template:
        """Return a compiled template with all limits; raise TemplateSyntaxError if it is not valid."""
        try:
            tree = _Checked().visit(self.parse(source))
            code = self.compile(tree)
        except (ArithmeticError, MemoryError, ValueError) as error:  # constants are computed here
            raise jinja2.TemplateSyntaxError(str(error), 1) from error
        return self.template_class.from_code(self, code, self.make_globals(None))


def with_limits(environment: jinja2.Environment) -> LimitedEnvironment:
    """Return a copy of a sandboxed environment with limits."""
    limited: Any = environment.overlay()
    limited.__class__ = LimitedEnvironment
    limited.filters = {name: _checked_filter(function) for name, function in environment.filters.items()}

    def counted(items: Any) -> Any:
        if hasattr(items, "__len__"):
            limited.take(len(items))
            return items
        return _each_counted(items, limited)

    limited.filters |= {_COUNTED: counted, _SIZED: _sized}
    checked: LimitedEnvironment = limited
    return checked


def transformers_name(source: str) -> str:
    """Return a template by whose text transformers renders ``source`` with limits.

    transformers compiles templates itself and keeps them by their text. The one that it keeps by this text, a comment,
    gets the code of ``source``. Raises TemplateSyntaxError if ``source`` is not valid.
    """
    from transformers.utils import chat_template_utils

    name = f"{{# {digest_bytes(source.encode('utf-8', 'surrogatepass'))} #}}"
    untyped: Any = chat_template_utils
    kept = untyped._compile_jinja_template(name)
    if not isinstance(kept.environment, LimitedEnvironment):
        template = with_limits(kept.environment).limited(source)
        for part in ("environment", "globals", "root_render_func", "blocks"):
            setattr(kept, part, getattr(template, part))
    kept.environment.begin()
    return name


class _Checked(NodeTransformer):
    """Adds a check to every loop, concatenation and block of text that is kept."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _COUNTED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, _SIZED)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.filter = _filtered(node.filter, _SIZED)
        return node


def _filtered(node: Any, name: str) -> nodes.Filter:
    line = 1 if node is None else node.lineno
    return nodes.Filter(node, name, [], [], None, None, lineno=line)


def _checked_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        _check_numbers((*arguments[1:], *named.values()))
        return _sized(function(*arguments, **named))

    return checked


def _each_counted(items: Iterable[Any], environment: LimitedEnvironment) -> Iterator[Any]:
    for item in items:
        environment.take(1)
        yield item


def _sized(value: Any) -> Any:
    if isinstance(value, str | bytes | list | tuple | dict) and len(value) > LARGEST:
        raise LimitError(f"it makes something longer than {LARGEST:,} characters")
    return value


def _check_numbers(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > LONGEST_REPEAT for value in values):
        raise LimitError(f"it repeats something more than {LONGEST_REPEAT:,} times")


def _check_product(left: Any, right: Any) -> None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | bytes | list | tuple) and isinstance(other, int) and len(one) * other > LARGEST:
            raise LimitError(f"it makes something longer than {LARGEST:,} characters")


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > 10_000:
        raise LimitError("it computes a number that is too large")

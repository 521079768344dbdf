"""The language of `compose`: concepts joined by AND, OR, NOT and weights. Knows nothing of models or tensors.

    expression := product ("|" product)*
    product    := factor ("&" factor)*
    factor     := NUMBER "*" factor | ("~" | "not:") factor | "(" expression ")" | NAME ["=" VALUE]

So a weight and NOT bind tighter than AND, and AND tighter than OR.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ebmctl.errors import UsageError

LONGEST = 2000  # characters of an expression
DEEPEST = 50  # factors within one another
TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)(?=\s*\*)|(?P<not>~|not:)|(?P<name>\w[\w.-]*)|(?P<mark>[&|()*=]))"
)


@dataclass(frozen=True)
class Concept:
    """A concept, or one value of it."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"


@dataclass(frozen=True)
class Not:
    """The negation of an expression."""

    term: Expression

    def __str__(self) -> str:
        return f"~{_within(self.term)}"


@dataclass(frozen=True)
class Weighted:
    """An expression with a weight above 0."""

    weight: float
    term: Expression

    def __str__(self) -> str:
        return f"{_number(self.weight)}*{_within(self.term)}"


@dataclass(frozen=True)
class And:
    """All of the terms."""

    terms: tuple[Expression, ...]

    def __str__(self) -> str:
        return " & ".join(map(_within, self.terms))


@dataclass(frozen=True)
class Or:
    """Any of the terms."""

    terms: tuple[Expression, ...]

    def __str__(self) -> str:
        return " | ".join(f"({term})" if isinstance(term, Or) else str(term) for term in self.terms)


Expression = Concept | Not | Weighted | And | Or


def parse(text: str) -> Expression:
    """Parse an expression; its `str` is the normal form. Raises UsageError that points to the error."""
    if len(text) > LONGEST:
        raise UsageError(f"the expression has {len(text):,} characters; the limit is {LONGEST:,}")
    parser = _Parser(text)
    found = parser.expression(0)
    if parser.kind != "end":
        parser.fail("expected & or |")
    return found


def parse_terms(texts: Sequence[str]) -> Expression:
    """The AND of several expressions, as the command line takes them."""
    return conjunction([parse(text) for text in texts])


def conjunction(terms: Sequence[Expression]) -> Expression:
    """The AND of terms, flat; one term stays itself."""
    flat = [part for term in terms for part in (term.terms if isinstance(term, And) else (term,))]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def concepts(expression: Expression) -> Iterator[Concept]:
    """All concepts in an expression, from left to right, each as often as it occurs."""
    if isinstance(expression, Concept):
        yield expression
    elif isinstance(expression, (Not, Weighted)):
        yield from concepts(expression.term)
    else:
        for term in expression.terms:
            yield from concepts(term)


def _within(term: Expression) -> str:
    return f"({term})" if isinstance(term, (And, Or)) else str(term)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and value < 1e15 else repr(value)


class _Parser:
    """Recursive descent over the tokens of a text; `kind` and `token` are the next one's."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.start = self.end = 0
        self.kind = self.token = ""
        self.advance()

    def advance(self) -> str:
        """Move on by one token; returns the one that was current."""
        left = self.text[self.start : self.end] if self.end else ""
        rest = self.text[self.end :]
        self.start = self.end + len(rest) - len(rest.lstrip())
        if self.start == len(self.text):
            self.kind, self.token = "end", ""
            return left
        match = TOKEN.match(self.text, self.end)
        if not match or not match.lastgroup:
            self.kind, self.end = "other", self.start + 1
            self.fail("not expected here")
        self.kind, self.token, self.end = match.lastgroup, match[match.lastgroup], match.end()
        return left

    def take(self, mark: str) -> bool:
        """Move on if the next token is that mark; returns whether it was."""
        found = self.kind == "mark" and self.token == mark
        if found:
            self.advance()
        return found

    def expression(self, depth: int) -> Expression:
        terms = [self.product(depth)]
        while self.take("|"):
            terms.append(self.product(depth))
        flat = [part for term in terms for part in (term.terms if isinstance(term, Or) else (term,))]
        return flat[0] if len(flat) == 1 else Or(tuple(flat))

    def product(self, depth: int) -> Expression:
        terms = [self.factor(depth)]
        while self.take("&"):
            terms.append(self.factor(depth))
        return conjunction(terms)

    def factor(self, depth: int) -> Expression:
        if depth > DEEPEST:
            self.fail(f"more than {DEEPEST} levels of nesting")
        if self.kind == "number":
            return self.weighted(depth)
        if self.kind == "not":
            self.advance()
            return Not(self.factor(depth + 1))
        if self.take("("):
            inner = self.expression(depth + 1)
            if not self.take(")"):
                self.fail("expected )")
            return inner
        if self.kind != "name":
            self.fail("expected a concept")
        name = self.token
        self.advance()
        if not self.take("="):
            return Concept(name)
        if self.kind != "name":
            self.fail("expected a value")
        value = self.token
        self.advance()
        return Concept(name, value)

    def weighted(self, depth: int) -> Expression:
        weight = float(self.token)
        if not 0 < weight < float("inf"):
            self.fail("a weight must be above 0")
        self.advance()
        self.take("*")
        inner = self.factor(depth + 1)
        return Weighted(weight * inner.weight, inner.term) if isinstance(inner, Weighted) else Weighted(weight, inner)

    def fail(self, what: str) -> NoReturn:
        """Raise UsageError with the text and a pointer to the present token."""
        shown = self.text.translate(dict.fromkeys(range(32), " "))
        place = f"at character {self.start + 1} of the expression"
        raise UsageError(f"{place}: {what}", (shown, " " * self.start + "^"))

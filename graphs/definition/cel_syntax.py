"""The syntax of CEL expressions: a text becomes a tree. Pure.

The engine that evaluates expressions doesn't show its tree, and it ends the process when an
expression is nested too deeply for the stack. So each expression is parsed here first, by the
grammar of the specification (github.com/google/cel-spec). What this parser accepts, the engine
parses again; it has the last word on what is valid.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

MAX_DEPTH = 200  # a pair of brackets counts as 4, a link of a chain such as a + b + c as 1
LOOPS = ("map", "filter", "all", "exists", "exists_one", "existsOne")
_BRACKETS = 4
_TOKEN = re.compile(
    r"""
    (?P<space>[\t\n\f\r ]+|//[^\n]*)
  | (?P<text>[bBrR]{0,2}(?:'''.*?(?<!\\)'''|\"\"\".*?(?<!\\)\"\"\"))
  | (?P<raw>(?:[bB]?[rR]|[rR][bB])(?:'[^'\n]*'|"[^"\n]*"))
  | (?P<line>[bB]?(?:'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
  | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<sign>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPERATORS = ("||", "&&", "== != < <= > >= in", "+ -", "* / %")  # the last ones bind closest
_LEVELS = {sign: level for level, signs in enumerate(_OPERATORS) for sign in signs.split()}


class SyntaxProblem(ValueError):
    """A text is not an expression, or is nested too deeply."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. `value` is None unless it is a text or a decimal integer."""

    value: str | int | None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Name:
    name: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Select:
    of: "Tree"
    field: str
    depth: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments, of which the first one may be before the dot.

    Operators are functions, too: all in a chain such as a - b + c are "+". `level` is theirs.
    """

    function: str
    args: tuple["Tree", ...]
    depth: int
    level: int | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over `of`. `condition` is the (start, end) of the text that decides what is kept."""

    function: str
    of: "Tree"
    variable: str
    parts: tuple["Tree", ...]
    condition: tuple[int, int] | None
    depth: int


Tree = Literal | Name | Select | Call | Loop


def names(tree: "Tree") -> frozenset[str]:
    """The variables that an expression reads, without those of its own loops."""
    match tree:
        case Name(name=name):
            return frozenset({name})
        case Select(of=of):
            return names(of)
        case Call(args=args):
            return frozenset().union(*map(names, args))
        case Loop(of=of, variable=variable, parts=parts):
            return names(of) | frozenset().union(*map(names, parts)) - {variable}
    return frozenset()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(text: str) -> Tree:
    """The tree of an expression. Raises SyntaxProblem."""
    parser = _Parser(_tokens(text))
    tree = parser.expression()
    parser.take("")
    return tree


def conditions(tree: Tree) -> list[tuple[int, int]]:
    """Where the conditions of the loops are that keep some of their items."""
    spans: list[tuple[int, int]] = []
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Select):
            waiting.append(part.of)
        elif isinstance(part, Call):
            waiting.extend(part.args)
        elif isinstance(part, Loop):
            waiting += [part.of, *part.parts]
            if part.condition:
                spans.append(part.condition)
    return spans


def calls_of(text: str, function: str) -> list[int]:
    """Where a function of this name is called, also as a method."""
    tokens = _tokens(text)
    return [
        token.start
        for token, following in pairwise(tokens)
        if (token.kind, token.text, following.text) == ("name", function, "(")
    ]


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SyntaxProblem(f"at {at + 1}: {text[at : at + 10]!r} can't be read")
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind, match.group(), at, match.end()))
        at = match.end()
    return [*tokens, _Token("sign", "", at, at)]


class _Parser:
    """Reads tokens by recursive descent. `_open` is the depth of what is open here."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._open = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _is(self, *signs: str) -> bool:
        return self._next.kind in ("sign", "name") and self._next.text in signs

    def take(self, sign: str) -> _Token:
        """The next token, which must be this one."""
        token = self._next
        if token.text != sign or token.kind not in ("sign", "name"):
            found = repr(token.text[:20]) if token.text else "the end"
            raise SyntaxProblem(f"at {token.start + 1}: {sign or 'the end'} expected, not {found}")
        self._at += 1
        return token

    def _taken(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def expression(self) -> Tree:
        """An expression, which may be a choice: a ? b : c."""
        condition = self._binary(0)
        if not self._is("?"):
            return condition
        self._taken()
        first = self._inner(lambda: self._binary(0))
        self.take(":")
        second = self._inner(self.expression)
        return _call("?:", [condition, first, second], _BRACKETS)

    def _inner(self, read: Callable[[], Tree]) -> Tree:
        """What `read` reads, one pair of brackets deeper."""
        self._open += _BRACKETS
        _check_depth(self._open)
        result = read()
        self._open -= _BRACKETS
        return result

    def _binary(self, lowest: int) -> Tree:
        """Operands with operators of this level and higher ones."""
        left = self._unary()
        while (level := self._level()) >= lowest:
            self._at += 1
            left = _chained(level, left, self._binary(level + 1))
        return left

    def _level(self) -> int:
        """The level of the operator that comes next; -1 if there is none."""
        token = self._next
        return _LEVELS.get(token.text, -1) if token.kind in ("sign", "name") else -1

    def _unary(self) -> Tree:
        signs = ""
        while self._is("!", "-"):
            signs += self._taken().text
        inner = self._member()
        return _call(signs[0], [inner]) if signs else inner

    def _member(self) -> Tree:
        tree = self._primary()
        while self._is(".", "["):
            if self._taken().text == "[":
                index = self._inner(self.expression)
                self.take("]")
                tree = _call("[]", [tree, index])
            else:
                tree = self._after_dot(tree)
        return tree

    def _after_dot(self, tree: Tree) -> Tree:
        field = self._name()
        if not self._is("("):
            return Select(tree, field, _check_depth(tree.depth + 1))
        if field in LOOPS:
            return self._loop(field, tree)
        return _call(field, [tree, *self._arguments()], _BRACKETS)

    def _name(self) -> str:
        token = self._taken()
        if token.kind != "name":
            raise SyntaxProblem(f"at {token.start + 1}: a name expected, not {token.text[:20]!r}")
        return token.text

    def _loop(self, function: str, of: Tree) -> Tree:
        spans: list[tuple[int, int]] = []
        args = self._arguments(spans)
        if len(args) < 2 or not isinstance(args[0], Name):
            return _call(function, [of, *args], _BRACKETS)
        filters = function == "filter" or (function == "map" and len(args) == 3)
        depth = _check_depth(max(tree.depth for tree in (of, *args)) + _BRACKETS)
        condition = spans[1] if filters else None
        return Loop(function, of, args[0].name, tuple(args[1:]), condition, depth)

    def _arguments(self, spans: list[tuple[int, int]] | None = None) -> list[Tree]:
        self.take("(")
        return self._items(")", self.expression, spans)

    def _items(
        self, end: str, read: Callable[[], Tree], spans: list[tuple[int, int]] | None = None
    ) -> list[Tree]:
        items: list[Tree] = []
        while not self._is(end):
            start = self._next.start
            items.append(self._inner(read))
            if spans is not None:
                spans.append((start, self._tokens[self._at - 1].end))
            if not self._is(end):
                self.take(",")
        self.take(end)
        return items

    def _entry(self) -> Tree:
        key = self.expression()
        self.take(":")
        return _call(":", [key, self.expression()])

    def _primary(self) -> Tree:
        if self._is("."):
            self._taken()
        token = self._taken()
        if token.kind in ("text", "raw", "line"):
            return Literal(_string(token.text))
        if token.kind == "number":
            return Literal(int(token.text) if token.text.isdecimal() else None)
        if token.kind == "name":
            if self._is("("):
                return _call(token.text, self._arguments(), _BRACKETS)
            return Name(token.text)
        if token.text == "(":
            inner = self._inner(self.expression)
            self.take(")")
            return inner
        if token.text == "[":
            return _call("[…]", self._items("]", self.expression), _BRACKETS)
        if token.text == "{":
            return _call("{…}", self._items("}", self._entry), _BRACKETS)
        found = repr(token.text) if token.text else "the end"
        raise SyntaxProblem(f"at {token.start + 1}: a value expected, not {found}")


def _check_depth(depth: int) -> int:
    if depth > MAX_DEPTH:
        raise SyntaxProblem(
            f"it is nested too deeply: {MAX_DEPTH // _BRACKETS} pairs of brackets, or a chain of"
            f" {MAX_DEPTH} operators are allowed"
        )
    return depth


def _call(function: str, args: list[Tree], levels: int = 1) -> Call:
    depth = max((arg.depth for arg in args), default=0) + levels
    return Call(function, tuple(args), _check_depth(depth))


def _chained(level: int, left: Tree, right: Tree) -> Call:
    """The chain of operators of one level with one more operand, named for its first operator.

    The engine balances && and ||, and nests the others.
    """
    function = _OPERATORS[level].split()[0]
    if not isinstance(left, Call) or left.function != function or left.level != level:
        return replace(_call(function, [left, right]), level=level)
    nested = 0 if function in ("&&", "||") else 1
    depth = _check_depth(max(left.depth + nested, right.depth + 1))
    return Call(function, (*left.args, right), depth, level)


def _string(token: str) -> str:
    """The value of a string. Where Python reads it differently, the text between the quotes."""
    try:
        value = ast.literal_eval(token)
    except (ValueError, SyntaxError):
        return token
    return value if isinstance(value, str) else token

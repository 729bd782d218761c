"""A net as a Python file: a line a neuron, no library but `math`.

`forward(x)` computes what the interpreter does in float64 under `strict`: the same operations in
the same order, each rounded, so only what `math` computes differs, in the last places. (What a net
asks for, float32 or fused sums, is not looked at.) Where Python would raise (exp overflows, a
division by 0, the log of 0) it returns what IEEE arithmetic says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from ncc.formats.exporters.attributes import parameters
from ncc.formats.write import names_of
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph
from ncc.scalar import aggregations as aggregate
from ncc.scalar.activations import name_of
from ncc.scalar.expressions import Expr, expression

# Functions of the file, by the opcode that they compute; what else is called is of `math`.
HELPERS: Final = {
    "div": """def _div(a, b):
    if b:
        return a / b
    return math.nan if a != a or not a else math.copysign(math.inf, a) * math.copysign(1.0, b)
""",
    "max": """def _max(a, b):
    return b if b > a else a
""",
    "min": """def _min(a, b):
    return b if b < a else a
""",
    "exp": """def _exp(x):
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
""",
    "expm1": """def _expm1(x):
    try:
        return math.expm1(x)
    except OverflowError:
        return math.inf
""",
    "log": """def _log(x):
    return math.log(x) if x > 0.0 else -math.inf if x == 0.0 else math.nan
""",
    "log1p": """def _log1p(x):
    return math.log1p(x) if x > -1.0 else -math.inf if x == -1.0 else math.nan
""",
    "sqrt": """def _sqrt(x):
    return math.sqrt(x) if x >= 0.0 else math.nan
""",
    "sin": """def _sin(x):
    return math.sin(x) if abs(x) < math.inf else math.nan
""",
    "cos": """def _cos(x):
    return math.cos(x) if abs(x) < math.inf else math.nan
""",
    "sigmoid": """def _sigmoid(x):
    e = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)
""",
    "softplus": """def _softplus(x):
    return (x if x > 0.0 else 0.0) + math.log1p(math.exp(-abs(x)))
""",
    "relu": """def _relu(x):
    return x if x > 0.0 or x != x else 0.0
""",
    "step": """def _step(x):
    return 1.0 if x > 0.0 else 0.0
""",
}
PLAIN: Final = {"tanh": "math.tanh", "erf": "math.erf", "atan": "math.atan", "abs": "abs"}
COMPARED: Final = {"lt": "<", "gt": ">", "le": "<=", "ge": ">=", "eq": "==", "une": "!="}
INFIX: Final = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
# How tightly a text binds: a comparison, a sum, a product, a sign, a name or call.
COMPARISON, SUM, PRODUCT, SIGN, ATOM = range(5)
LONGEST = 64  # characters of a text that goes into a longer one; beyond, it gets a name


STATEFUL: Final = """

With it comes the state, which the next call takes: y, state = forward(x, state).
"""


class Text(NamedTuple):
    """Python's spelling of a value."""

    text: str
    rank: int = ATOM

    def within(self, rank: int) -> str:
        """In brackets where it binds less than `rank`."""
        return self.text if self.rank >= rank else f"({self.text})"


class PythonText:
    """An emitter (ncc/scalar/emitter.py) whose values are texts. `lines` are the assignments of
    values that got a name, `used` the helpers that are called."""

    fused = False

    def __init__(self, used: set[str]) -> None:
        self.used = used
        self.lines: list[str] = []

    def const(self, value: float) -> Text:
        if not math.isfinite(value):
            return Text(f"{'-' * (value < 0)}math.{'nan' if value != value else 'inf'}", SIGN)
        return Text(repr(value), SIGN if math.copysign(1.0, value) < 0 else ATOM)

    def op(self, name: str, *values: Text) -> Text:
        made = self._op(name, *values)
        return self.named(made) if len(made.text) > LONGEST else made

    def named(self, value: Text) -> Text:
        """A name of the value, which is assigned to it on a line of its own."""
        name = f"t{len(self.lines) + 1}"
        self.lines.append(f"{name} = {value.text}")
        return Text(name)

    def _op(self, name: str, *values: Text) -> Text:
        if name in ("add", "sub"):
            return Text(f"{values[0].within(SUM)} {INFIX[name]} {values[1].within(PRODUCT)}", SUM)
        if name == "mul" or name == "div" and _number(values[1]):
            return Text(f"{values[0].within(PRODUCT)}{INFIX[name]}{values[1].within(SIGN)}",
                        PRODUCT)
        if name == "neg":
            return Text(f"-{values[0].within(SIGN)}", SIGN)
        if name in COMPARED:
            return Text(f"{values[0].within(SUM)} {COMPARED[name]} {values[1].within(SUM)}",
                        COMPARISON)
        if name == "select":
            return Text(f"({values[1].text} if {values[0].text} else {values[2].text})")
        return self.call(name, *values)

    def call(self, name: str, *values: Text) -> Text:
        """A function of `math`, or a helper, of the values."""
        if name not in PLAIN:
            if name not in HELPERS:
                raise AssertionError(f"no Python text of {name}")
            self.used.add(name)
        return Text(f"{PLAIN.get(name, f'_{name}')}({', '.join(v.text for v in values)})")


def _number(value: Text) -> bool:
    """Whether it is a number that is no zero, as every constant divisor is."""
    try:
        return float(value.text) != 0
    except ValueError:
        return False


def python(graph: Graph, lossy: bool = False) -> bytes:
    """The file. NccError E607 where a parameter has no value."""
    parameters(graph)
    used: set[str] = set()
    body = list(_forward(graph, used))
    functions = [_function(code, graph, used) for code in _codes(graph)
                 if _primitive(expression(code, graph.functions)) is None]
    head = (f'"""A net, made by ncc: forward(x) of {graph.n_inputs} numbers is a list of '
            f'{len(graph.outputs)}.{STATEFUL if len(graph.states) else ""}"""\n\nimport math\n')
    return "\n\n".join([
        head,
        *[HELPERS[name] for name in HELPERS if name in used], *functions,
        "\n".join(body) + "\n"]).encode()


def _codes(graph: Graph) -> list[int]:
    return [code for code in np.unique(graph.activations).tolist() if code >= 0]


def _primitive(expr: Expr) -> str | None:
    """The opcode that an activation is, `x` of the identity; None where it is more than one."""
    ops = [node.op for node in expr.nodes]
    if ops == ["x"]:
        return "x"
    return ops[1] if ops[0] == "x" and len(ops) == 2 and ops[1] in {*PLAIN, *HELPERS} else None


def _function(code: int, graph: Graph, used: set[str]) -> str:
    """The function of an activation: a line for each value that is read more than once."""
    expr = expression(code, graph.functions)
    readers = Counter(a for node in expr.nodes for a in node.args)
    e = PythonText(used)
    values: list[Text] = []
    for k, node in enumerate(expr.nodes):
        if node.op == "x":
            value = Text("x")
        elif node.op == "const":
            value = e.const(node.value)
        else:
            value = e.op(node.op, *[values[a] for a in node.args])
            if readers[k] > 1 and not value.text.isidentifier():
                value = e.named(value)
        values.append(value)
    lines = [*e.lines, f"return {values[-1].text}"]
    return f"def _{_name(code)}(x):\n" + "".join([f"    {line}\n" for line in lines])


def _name(code: int) -> str:
    return name_of(code) if code < 0x20 else f"f{code:02x}"


def _forward(graph: Graph, used: set[str]) -> Iterator[str]:
    names = [f"n{name}".replace("n~", "last") for name in names_of(graph)]
    table = np.concatenate([graph.values, graph.constants[::-1]]).tolist()
    starts, sources, weights = (a.tolist() for a in (graph.starts, graph.sources, graph.weights))
    activations, biases = graph.activations.tolist(), graph.biases.tolist()
    primitives = {code: _primitive(expression(code, graph.functions)) for code in _codes(graph)}
    inputs = [names[j] for j in graph.inputs.tolist()]
    results = [[names[j] for j in listed.tolist()] for listed in (graph.outputs, graph.states)]
    states = len(graph.states)
    comments = {label.first: f"  # {label.name}" for label in reversed(graph.labels)
                if not label.shape}
    yield f"def forward(x, state=(0.0,) * {states}):" if states else "def forward(x):"
    yield from _list("    [", inputs[: graph.n_inputs], "] = map(float, x)")
    if states:
        yield from _list("    [", inputs[graph.n_inputs :], "] = state")
    assert graph.levels is not None
    for j in np.argsort(graph.levels, kind="stable").tolist():
        code = activations[j]
        if code in (INPUT, ABSENT):
            continue
        e = PythonText(used)
        pairs = ((Text(names[sources[k]]), e.const(table[weights[k]]))
                 for k in range(starts[j], starts[j + 1]))
        bias = None if biases[j] == NONE else e.const(table[biases[j]])
        value = aggregate.total(e, AGGREGATIONS[graph.aggregations[j]], pairs, bias)
        primitive = primitives[code]
        if primitive is None:
            value = Text(f"_{_name(code)}({value.text})")
        elif primitive != "x":
            value = e.call(primitive, value)
        yield from [f"    {line}" for line in e.lines]
        yield f"    {names[j]} = {value.text}{comments.get(j, '')}"
    if states:
        yield from _list("    outputs = [", results[0], "]")
        yield from _list("    return outputs, [", results[1], "]")
    else:
        yield from _list("    return [", results[0], "]")


def _list(head: str, words: Sequence[str], tail: str) -> Iterator[str]:
    """Words with commas, sixteen a line."""
    lines = [", ".join(words[k : k + 16]) for k in range(0, len(words), 16)]
    whole = (",\n" + " " * len(head)).join(lines)
    yield from f"{head}{whole}{tail}".split("\n")

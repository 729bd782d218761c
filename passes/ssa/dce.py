"""Dead code elimination."""

from __future__ import annotations

from ncc.ir.ssa import Func, Module
from ncc.scalar.opcodes import EFFECTS

# What is not live by its readers alone.
SPECIAL = frozenset({*EFFECTS, "return", "yield", "result", "apply"})


def dce(module: Module) -> Module:
    """Drop the ops that no store needs, loops without effect, and tables and pure functions that
    nothing uses.

        func forward(x in 2, y out 1) {          func forward(x in 2, y out 1) {
          %0 = load x[0]                           %0 = load x[0]
          %1 = load x[1]                           %1 = load x[1]
          %2 = mul %0, %1                  =>      %2 = add %0, %1
          %3 = add %0, %1                          store %2, y[0]
          store %3, y[0]                         }
        }
    """
    funcs = tuple(_dce(f) for f in module.funcs)
    applied: set[str] = set()
    for f in sorted(reversed(funcs), key=lambda f: f.pure):  # a pure one applies those above it
        if not f.pure or f.name in applied:
            applied.update([op[2] for op in f.ops if op[0] == "apply"])
    funcs = tuple(f for f in funcs if not f.pure or f.name in applied)
    read = {op[2] if op[0] == "lookup" else op[2][0]
            for f in funcs for op in f.ops if op[0] in ("lookup", "load")}
    return module.with_(funcs=funcs, tables=tuple(t for t in module.tables if t.name in read))


def _dce(func: Func) -> Func:
    ops = func.ops
    # For each loop: where it closes, and whether a store or a call is in it.
    close: dict[int, int] = {}
    effect: dict[int, bool] = {}
    stack: list[int] = []
    for at, op in enumerate(ops):
        opcode = op[0]
        if opcode == "for":
            stack.append(at)
            effect[at] = False
        elif opcode == "yield":
            close[at] = stack.pop()
        elif stack and opcode in EFFECTS:
            for start in stack:
                effect[start] = True
    live = [False] * len(ops)
    at = len(ops) - 1
    results = False  # whether a result of the yield or apply that comes next is live
    while at >= 0:
        opcode, reads, _ = ops[at]
        if opcode not in SPECIAL:
            pass
        elif opcode == "yield":
            start = close[at]
            if not effect[start] and not results:
                at = start - 1
                results = False
                continue
            # A loop that stays keeps all its carries.
            live[at] = live[start] = True
            k = start + 1
            while ops[k][0] == "carry":
                live[k] = True
                k += 1
            results = False
        elif opcode == "result":
            results = results or live[at]
        elif opcode == "apply":
            live[at] = live[at] or results
            results = False
        else:
            live[at] = True
        if live[at]:
            for r in reads:
                live[r] = True
        at -= 1
    if all(live):
        return func
    first = live.index(False)  # all above it stay as they are
    out = ops[:first]
    new = [*range(first), *[-1] * (len(ops) - first)]
    for at in range(first, len(ops)):
        if live[at]:
            opcode, reads, imm = ops[at]
            new[at] = len(out)
            out.append((opcode, tuple([new[r] for r in reads]), imm))
    return func.with_ops(out, new)

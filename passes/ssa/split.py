"""Functions small enough for LLVM's worse-than-linear parts."""

from __future__ import annotations

from dataclasses import replace

from ncc.ir.ssa import READ_ONLY, Func, Module, Op, types
from ncc.machine.x86 import fits

WHOLE = 400  # ops: up to here the machine's registers and stack serve better than `work`
PIECE = 3000  # ops of one piece; an edge is three
NEAR = 200  # ops: a value read this close to its making stays in a register


def split(module: Module, *, piece: int = PIECE, whole: int = WHOLE,
          assembles: bool = False) -> Module:
    """Cut long straight functions into pieces that pass values through `work`.

        // piece=3 whole=1
        func forward(x in 1, y out 1, work work 1) {
          %0 = load x[0]
          %1 = tanh %0
          store %1, work[0]
          %3 = exp %1
          %4 = abs %3
          store %4, y[0]
        }
        =>
        internal forward_0(x in 1, y out 1, work work 1) {
          %0 = load x[0]
          %1 = tanh %0
          store %1, work[0]
        }

        internal forward_1(x in 1, y out 1, work work 1) {
          %0 = load work[0]
          %1 = exp %0
          %2 = abs %1
          store %2, y[0]
        }

        func forward(x in 1, y out 1, work work 1) {
          call forward_0
          call forward_1
        }

    A value that has a slot of `work` is loaded afresh at each use but the next ones (the load folds
    into the arithmetic, while a value kept for many readers would be spilled and reloaded by
    itself; but soon after its making a load would wait for the store), and
    so are inputs and parameters. A value without a slot that a later piece reads, such as a
    product that CSE found, gets one behind the others. A function of at most `whole` ops keeps
    its values in registers and needs no `work`. Only reals go through `work`: no cut falls
    where a word, an index or a truth value is alive, as inside exp. Where ncc `assembles` a long
    function itself, it stays as it is.
    """
    tables = {t.name: t.type for t in module.tables}
    funcs: list[Func] = []
    for func in module.funcs:
        short = len(func.ops) <= whole
        loops = not {"for", "call"}.isdisjoint([op[0] for op in func.ops])
        reloads = short and any([op[0] == "load" and op[2][0] == "work" for op in func.ops])
        if loops or not func.exported or reloads:
            funcs.append(func)  # in a text that was split before, say
        elif short:
            funcs.append(_without_work(func))
        elif assembles and fits(func):
            funcs.append(func)
        else:
            funcs += _split(func, piece, types(func, tables))
    made = {func.name: func for func in funcs}
    return module.with_(funcs=tuple([_as_called(func, made) for func in funcs]))


def _as_called(func: Func, made: dict[str, Func]) -> Func:
    """`func` with as much work as the function that it calls sample by sample has now."""
    called = [made[op[2][0]] for op in func.ops if op[0] == "call_at"]
    sizes = {b.name: b.size for callee in called for b in callee.buffers if b.kind == "work"}
    buffers = tuple(b._replace(size=sizes.get(b.name, b.size)) for b in func.buffers)
    return replace(func, buffers=buffers) if sizes else func


def _without_work(func: Func) -> Func:
    """`func` without its stores to `work`, which no load of it reads."""
    out: list[Op] = []
    new: list[int] = []
    for op in func.ops:
        opcode, reads, imm = op
        if opcode == "store" and imm[0] == "work":
            new.append(-1)
            continue
        if reads and len(out) < len(new):
            op = (opcode, tuple([new[r] for r in reads]), imm)
        new.append(len(out))
        out.append(op)
    buffers = tuple(b._replace(size=0) if b.kind == "work" else b for b in func.buffers)
    return replace(func.with_ops(out, new), buffers=buffers)


def _split(func: Func, size: int, typed: list[str]) -> list[Func]:
    ops = func.ops
    written = {b.name for b in func.buffers if b.kind not in READ_ONLY}
    fresh = [op[0] in ("const", "word", "index") or (op[0] == "load" and op[2][0] not in written)
             for op in ops]
    piece = _pieces(ops, fresh, typed, size)

    # Which values have to be given a slot of their own: read in a later piece while no slot
    # holds them. A slot holds what was last stored to it.
    slots = next(b.size for b in func.buffers if b.kind == "work")
    spilled: dict[int, int] = {}
    where: dict[int, int] = {}  # value -> the slot that was last given it
    holds: dict[int, int] = {}  # slot -> the value in it
    for at, (opcode, reads, imm) in enumerate(ops):
        here = piece[at]
        for r in reads:
            if piece[r] != here and not fresh[r] and r not in spilled:
                slot = where.get(r)
                if slot is None or holds[slot] != r:
                    spilled[r] = slots + len(spilled)
        if opcode == "store" and imm[0] == "work":
            where[reads[0]] = imm[1]
            holds[imm[1]] = reads[0]

    where.clear()
    holds.clear()
    bodies: list[list[Op]] = [[]]
    own = func.neurons
    neurons: list[list[int]] = [[]]  # of their ops: those of the ops that read what is made afresh
    new = [0] * len(ops)
    made = [-1] * len(ops)  # the piece in which `new` is valid
    for at, (opcode, reads, imm) in enumerate(ops):
        if fresh[at]:
            continue
        if piece[at] >= len(bodies):
            bodies.append([])
            neurons.append([])
        out = bodies[-1]
        here = len(bodies) - 1
        args = []
        for r in reads:
            if fresh[r]:
                out.append(ops[r])
                args.append(len(out) - 1)
                continue
            near = made[r] == here and len(out) - new[r] <= NEAR
            slot = where.get(r)
            if near or (made[r] == here and (slot is None or holds[slot] != r)):
                args.append(new[r])
                continue
            if slot is None or holds[slot] != r:
                slot = spilled[r]
            out.append(("load", (), ("work", slot)))
            args.append(len(out) - 1)
        out.append((opcode, tuple(args), imm))
        new[at], made[at] = len(out) - 1, here
        if opcode == "store" and imm[0] == "work":
            where[reads[0]] = imm[1]
            holds[imm[1]] = reads[0]
        elif at in spilled:
            out.append(("store", (new[at],), ("work", spilled[at])))
        if own is not None:
            neurons[-1] += [own[at]] * (len(out) - len(neurons[-1]))
    total = slots + len(spilled)
    buffers = tuple(b._replace(size=total) if b.kind == "work" else b for b in func.buffers)
    linked = neurons if own is not None else [None] * len(bodies)
    if len(bodies) == 1:
        return [Func(func.name, buffers, bodies[0], neurons=linked[0])]
    funcs = [Func(f"{func.name}_{k}", buffers, body, exported=False, neurons=linked[k])
             for k, body in enumerate(bodies)]
    calls: list[Op] = [("call", (), f.name) for f in funcs]
    return [*funcs, Func(func.name, buffers, calls)]


def _pieces(ops: list[Op], fresh: list[bool], typed: list[str], size: int) -> list[int]:
    """The piece of each op: cut after a store, where a piece has reached three quarters."""
    until = 0  # the last reader of the words, indices and truth values so far
    last = list(range(len(ops)))
    for at, op in enumerate(ops):
        for r in op[1]:
            last[r] = at
    out = []
    piece = count = 0
    for at, op in enumerate(ops):
        out.append(piece)
        if fresh[at]:  # is made where it is read: a piece of these alone would be no function
            continue
        count += 1
        for r in op[1]:
            count += fresh[r]
        if typed[at] not in ("f", ""):
            until = max(until, last[at])
        full = count >= size or (op[0] == "store" and count >= size * 3 // 4)
        if full and until <= at:
            piece, count = piece + 1, 0
    return out

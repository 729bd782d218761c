"""Functions as text: their heads, and their ops one after the other."""

from __future__ import annotations

from collections.abc import Callable

from ncc.ir.ssa import READ_ONLY, layout
from ncc.passes.emit.llvm.addresses import address
from ncc.passes.emit.llvm.applies import apply, apply_rare, result_type
from ncc.passes.emit.llvm.arithmetic import literal, write_arithmetic
from ncc.passes.emit.llvm.loops import close_loop, improvable, open_loop
from ncc.passes.emit.llvm.memory import lookup, write_load, write_store
from ncc.passes.emit.llvm.sums import outer_products, turn, write_sum
from ncc.passes.emit.llvm.tiles import find_moves, waits, write_tile
from ncc.passes.emit.llvm.writer import Variant, Writer
from ncc.scalar.opcodes import OPCODES, SUMS


def function_text(w: Writer) -> str:
    """The text of a function over memory."""
    func = w.func
    offsets, _ = layout(func)
    arguments = [f"{w.index} %n"] if func.counted else []
    for b in func.buffers:
        if b.kind == "value":
            arguments.append(f"{w.real} %{b.name}")
        elif b.name in offsets and func.exported and len(offsets) > 1:
            if "ptr noalias %memory" not in arguments:
                arguments.append("ptr noalias %memory")
            w.lines.append(f"  %{b.name} = getelementptr inbounds {w.real}, ptr %memory, "
                           f"i64 {offsets[b.name]}")
        else:
            readonly = "readonly " if b.kind in READ_ONLY else ""
            arguments.append(f"ptr noalias {readonly}%{b.name}")
    outer_products(w)
    find_moves(w)
    write_ops(w)
    w.lines.append("  ret void")
    kind, attribute = ("", "#0") if func.exported else ("internal fastcc ", "#1")
    if w.latches:
        attribute = "#2" if improvable(w) else "#0"
    symbol = w.unit.symbol(func.name)
    if w.unit.elf and func.exported:  # of its own, so that a linker drops what nobody calls
        attribute += f' section ".text.{symbol}"'
    located, lines = linked(w, symbol)
    return (f"define {kind}void @{symbol}({', '.join(arguments)}) {attribute}{located} "
            "{\nentry:\n" + "\n".join([*w.stack, *filter(None, lines)]) + "\n}\n")


def variant_text(w: Writer, variant: Variant) -> str:
    """The text of a pure function that takes its arguments as vectors."""
    w.native = variant.native
    w.lanes = variant.native * variant.parts
    arguments = [f"%a{p}" for p in range(variant.parts)]
    ops = w.func.ops
    if w.lanes > 1:
        fixed = ("const", "word")
        w.splatted = [op[0] in fixed for op in ops]
        w.varying = [letter in ("f", "w", "b") and op[0] not in fixed
                     for letter, op in zip(w.types, ops, strict=True)]
    for at, (opcode, _, _) in enumerate(ops):
        if opcode == "argument":
            w.vectors[at], w.scalar[at] = arguments, arguments[0]
    write_ops(w)
    results = [(w.type(w.types[r], True), part) for r in ops[-1][1]
               for part in (w.vectors[r] if w.lanes > 1 else [w.scalar[r]])]
    kind = w.type("f", True)
    whole = result_type(w, variant, [w.types[r] for r in ops[-1][1]])
    result = results[0][1]
    if len(results) > 1:
        result = "poison"
        for p, (each, part) in enumerate(results):
            result = w.add(f"insertvalue {whole} {result}, {each} {part}, {p}")
    w.lines.append(f"  ret {whole} {result}")
    symbol = w.unit.symbol(variant.symbol)
    located, lines = linked(w, symbol)
    parameters = ", ".join([f"{kind} {a}" for a in arguments])
    return (f"define internal fastcc {whole} @{symbol}({parameters}) "
            f"#3{located} {{\nentry:\n" + "\n".join(lines) + "\n}\n")


def linked(w: Writer, symbol: str) -> tuple[str, list[str]]:
    """What the function's head says of its neurons, and its lines with theirs."""
    return ("", w.lines) if w.links is None else w.links.end(symbol)


def write_ops(w: Writer) -> None:
    """Write the ops."""
    ops, tile, links = w.func.ops, w.tile, w.links
    at = -1
    while at + 1 < len(ops):
        at += 1
        opcode = ops[at][0]
        if at < w.done or opcode == "carry" or at in tile.moved:
            continue  # a carry is written by its `for`, a tile's op by the last of them
        if tile.waiting is not None and not waits(w, at):
            write_tile(w)
        if links is not None:
            links.begin(at)
        if opcode == "yield":
            if close_loop(w, at):  # and now the other vectors
                at = w.again - 1
            continue
        write = WRITERS.get(opcode)
        if write is not None:
            write(w, at)
        if w.splatted[at] and not w.varying[at] and opcode != "for":
            w.splat(at)
        if at in w.sums.turning:
            turn(w, w.sums.turning[at])
    if links is not None:
        links.begin(-1)


def const(w: Writer, at: int) -> None:
    """Write a constant: it is an operand by itself."""
    w.scalar[at] = literal(w.func.ops[at][2])


def integer(w: Writer, at: int) -> None:
    """Write a word, or an index."""
    w.scalar[at] = str(w.func.ops[at][2])


def count(w: Writer, at: int) -> None:
    """Write the number of samples."""
    w.scalar[at] = "%n"


def given(w: Writer, at: int) -> None:
    """Write whether a buffer is given."""
    held = w.add(f"icmp ne ptr %{w.func.ops[at][2]}, null")
    w.scalar[at] = w.add(f"zext i1 {held} to {w.index}")


def begin_loop(w: Writer, at: int) -> None:
    """Write a `for`; in a pure function it may be one of what is rare."""
    open_loop(w, at)
    if w.func.pure:
        apply_rare(w, at)


def call(w: Writer, at: int) -> None:
    """Write a call of another function over memory, of the same buffers."""
    passed = ", ".join([f"ptr %{b.name}" for b in w.module.func(w.func.ops[at][2]).buffers])
    w.lines.append(f"  call fastcc void @{w.unit.symbol(w.func.ops[at][2])}({passed})")


def call_at(w: Writer, at: int) -> None:
    """Write a call of an exported function, some of whose buffers begin further on."""
    _, reads, (name, buffers) = w.func.ops[at]
    moved = dict(zip(buffers, reads, strict=True))
    passed = ", ".join(["ptr " + (
        address(w, b.name, 0, w.scalar[moved[b.name]]) if b.name in moved
        else f"%{b.name}") for b in w.module.func(name).buffers])
    w.lines.append(f"  call void @{w.unit.symbol(name)}({passed})")


# The writer of each op; what is not here is no text.
WRITERS: dict[str, Callable[[Writer, int], None]] = {
    **dict.fromkeys(OPCODES, write_arithmetic),
    **dict.fromkeys(SUMS, write_sum),
    "const": const,
    "word": integer,
    "index": integer,
    "count": count,
    "given": given,
    "apply": apply,
    "load": write_load,
    "store": write_store,
    "lookup": lookup,
    "for": begin_loop,
    "call": call,
    "call_at": call_at,
}

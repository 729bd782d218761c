"""What moves between the lanes of vectors: transpositions, and sums over lanes."""

from __future__ import annotations

from collections.abc import Iterable

from ncc.passes.emit.llvm.arithmetic import instruction
from ncc.passes.emit.llvm.writer import Writer
from ncc.passes.emit.tile_assembly import in_registers
from ncc.scalar.sum_order import CHAIN, ROUND


def transposed(w: Writer, rows: list[str]) -> list[str]:
    """The columns of a square tile of vectors, in log2 of its side many steps of two-vector
    shuffles: in each 128 bits first, where each is one instruction of x86 and of Arm."""
    n, v = w.native, w.type("f", True)
    rows = list(rows)
    if 128 < n * w.bits <= w.unit.assembles:
        return assembled(w, rows)

    def shuffle(a: int, b: int, mask: list[int]) -> str:
        shown = ", ".join([f"i32 {k}" for k in mask])
        return w.add(f"shufflevector {v} {rows[a]}, {v} {rows[b]}, <{n} x i32> <{shown}>")

    def steps(step: int, low: list[int], high: list[int]) -> None:
        for a in range(n):
            if not a & step:
                rows[a], rows[a + step] = (shuffle(a, a + step, low), shuffle(a, a + step, high))

    small = min(n, 128 // w.bits)
    if w.bits == 32 and n >= 4:  # unpack singles, then pairs: rows 1 and 2 change places
        fours = range(0, n, 4)
        steps(1, [k for f in fours for k in (f, n + f, f + 1, n + f + 1)],
              [k for f in fours for k in (f + 2, n + f + 2, f + 3, n + f + 3)])
        steps(2, [k for f in fours for k in (f, f + 1, n + f, n + f + 1)],
              [k for f in fours for k in (f + 2, f + 3, n + f + 2, n + f + 3)])
        for f in fours:
            rows[f + 1], rows[f + 2] = rows[f + 2], rows[f + 1]
    else:
        steps(1, [k + n * (k & 1) - (k & 1) for k in range(n)],
              [k + 1 if not k & 1 else n + k for k in range(n)])
    if n == 4 * small:  # of four times 128 bits, the even ones of two vectors, and the odd
        halves = [[q * small + k for q in (h, h + 2, h + 4, h + 6) for k in range(small)]
                  for h in (0, 1)]
        steps(small, *halves)
        steps(2 * small, *halves)
        return rows
    step = small
    while step < n:  # exchange this bit of the row's number and of the column's
        steps(step, [n + k - step if k & step else k for k in range(n)],
              [n + k if k & step else k + step for k in range(n)])
        step *= 2
    return rows


def assembled(w: Writer, rows: list[str]) -> list[str]:
    """The same by ncc's own assembly, as LLVM takes long over shuffles: the rows are arguments and
    results, and there are four registers besides."""
    n, v = w.native, w.type("f", True)
    lines, held = in_registers(w.size, n)
    # Of 256 bits the first 16 registers: some of the instructions have no others.
    kind = "v" if n * w.bits > 256 else "x"
    operands = ",".join([*[f"={kind}"] * n, *[f"=&{kind}"] * 4, *map(str, range(n))])
    whole = f"{{ {', '.join([v] * (n + 4))} }}"
    text, passed = "\\0A".join(lines), ", ".join([f"{v} {row}" for row in rows])
    made = w.add(f'call {whole} asm "{text}", "{operands}"({passed})')
    return [w.add(f"extractvalue {whole} {made}, {k}") for k in held]


def reduced(w: Writer, chains: list[list[str]]) -> list[str]:
    """For each round of the lanes one vector, whose first elements are the sums of each of
    `chains`, a power of two of them."""
    each = [list(vectors) for vectors in zip(*chains, strict=True)]
    width = ROUND[w.module.dtype] // CHAIN  # chains of a round
    if w.native > width:
        return [row for vectors in each for row in folded(w, vectors, width)]
    rows = [folded(w, vectors, w.native)[0] for vectors in each]
    while w.native < width:
        width //= 2
        rows = [instruction(w, "add", [a, b], "f", True)
                for a, b in zip(rows[::2], rows[1::2], strict=True)]
    return rows


def folded(w: Writer, vectors: list[str], width: int) -> list[str]:
    """For each `width` lanes one vector, whose first elements are the sums over those lanes of
    each of `vectors`: a transposition that adds at each step. First within 128 bits, where
    shuffles are cheap, then across; a single vector is paired with itself."""
    v = w.type("f", True)
    n = w.native
    inside = w.inside()
    steps: list[tuple[list[int], int]] = []  # what the first shuffle takes, how far the second
    block = 1
    while block < inside:
        half = inside // (2 * block)
        steps.append(([which * n + lane * inside + part * block + k
                       for lane in range(n // inside) for part in range(half)
                       for which in (0, 1) for k in range(block)], half * block))
        block *= 2
    lanes = n // inside
    even = [which * n + lane * inside + k for which in (0, 1)
            for lane in range(0, lanes, 2) for k in range(inside)]
    steps += [(even, inside)] * (lanes.bit_length() - 1)
    apart = (n // width).bit_length() - 1  # the last steps, in which nothing is added
    if apart > 1:
        raise ValueError(f"a vector of {n // width} rounds")
    for number, (low, shift) in enumerate(steps):
        first, second = selection(low), selection([k + shift for k in low])
        pairs = list(zip(vectors[::2], vectors[1::2], strict=False)) or [(vectors[0],) * 2]
        vectors = []
        for a, b in pairs:
            both = [w.add(f"shufflevector {v} {a}, {v} {b}, {chosen}")
                    for chosen in (first, second)]
            if number < len(steps) - apart:
                both = [instruction(w, "add", both, "f", True)]
            vectors += both
    return vectors


def selection(elements: Iterable[int]) -> str:
    """The mask of a shuffle that takes these elements."""
    chosen = list(elements)
    return f"<{len(chosen)} x i32> <{', '.join([f'i32 {k}' for k in chosen])}>"

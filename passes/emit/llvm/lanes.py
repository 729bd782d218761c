"""The lanes loop: which sample each lane has, which lanes have none, and indices made of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from ncc.passes.emit.llvm.writer import LanesLoop, Stride, Writer
from ncc.scalar.opcodes import SUMS
from ncc.scalar.sum_order import CHAIN, ROUND


def shape(w: Writer, at: int) -> tuple[int, int]:
    """The lanes of a vector, and all lanes, in the lanes loop that opens at `at`."""
    lanes = w.func.ops[at][2]
    if lanes > 1 and accumulates(w, at):  # four vectors hold chains, one sample each
        return gcd(w.widest, lanes // CHAIN), lanes
    # Lanes that no whole number of registers holds are made of narrower vectors.
    native = gcd(w.widest, lanes)
    return native, lanes if native > 1 else 1


def accumulates(w: Writer, at: int) -> bool:
    """Whether anything accumulates in the loop that opens at `at`."""
    if at not in w.adding:
        depth = 0
        w.adding[at] = False
        for opcode, _, _ in w.func.ops[at:]:
            depth += (opcode == "for") - (opcode == "yield")
            if depth == 0:
                break
            if opcode in SUMS:
                w.adding[at] = True
                break
    return w.adding[at]


def open_lanes(w: Writer, at: int, bounds: tuple[int, ...], hi: str) -> None:
    """The sample of each lane; past the end the last sample again."""
    for value in w.entering[at]:
        w.splat(value)
    loop = w.open = LanesLoop(step=f"%k{at}", affine={at: (1, None)},
                              chains=w.lanes > 1 and accumulates(w, at))
    if loop.chains:
        loop.samples = [CHAIN * chain_of(w, part // CHAIN * w.native + lane) + part % CHAIN
                        for part in range(w.parts()) for lane in range(w.native)]
    else:
        loop.samples = list(range(w.lanes))
        first, last = (w.func.ops[r] for r in bounds)
        loop.whole = (first[0] == last[0] == "index" and w.native > 1
                      and (last[2] - first[2]) % w.lanes == 0)
    if loop.whole:
        return
    if w.lanes == 1:
        loop.firsts = {stride: first_sample(w, stride) for stride in strides(w, at)}
        return
    find_samples(w, at, hi)
    if any(op[0] == "mask" for op in w.func.ops):
        # A select between a value and 0, stored where the value was, would become a masked
        # store, which takes some machines tens of cycles: words from a table stay words.
        left = w.add(f"sub {w.index} {hi}, %k{at}")
        few = w.add(f"icmp slt {w.index} {left}, {w.lanes}")
        real = w.add(f"select i1 {few}, {w.index} {left}, {w.index} {w.lanes}")
        if loop.chains:
            mask_chains(w, real)
        else:
            mask_samples(w, real)
        if any(w.elementwise.values()):
            keep_masks(w, at)


def first_sample(w: Writer, stride: Stride) -> str:
    """Where the round's first sample is."""
    step = w.open.step
    return step if stride == 1 else w.add(f"mul nsw {w.index} {step}, {stride}")


def find_samples(w: Writer, at: int, hi: str) -> None:
    """For each stride, where the round's first sample is, and how far from it each lane's: in
    vectors of 32 bits, as a scalar a lane would be spilled to memory and found again. Past the
    end it is the last sample, or the last of those that have the same place in their chain, if
    there is one."""
    loop = w.open
    last = w.add(f"sub {w.index} {hi}, 1")
    left = w.add(f"sub {w.index} {last}, {loop.step}")
    few = w.add(f"icmp slt {w.index} {left}, {w.lanes}")
    left = w.add(f"select i1 {few}, {w.index} {left}, {w.index} {w.lanes}")
    if w.index != "i32":
        left = w.add(f"trunc {w.index} {left} to i32")
    ends = []
    if loop.chains:
        for p in range(CHAIN):
            place = w.add(f"sub i32 {left}, {p}")
            some = w.add(f"add i32 {w.add(f'and i32 {place}, {-CHAIN}')}, {p}")
            none = w.add(f"icmp slt i32 {place}, 0")
            ends.append(w.add(f"select i1 {none}, i32 {left}, i32 {some}"))
    loop.most = w.broadcast("i32", left)
    most = [w.broadcast("i32", end) for end in ends] or [loop.most]
    v = f"<{w.native} x i32>"
    minimum = f"@llvm.umin.v{w.native}i32"
    w.used.add(f"declare {v} {minimum}({v}, {v})")
    lanes = [w.add(f"call {v} {minimum}({v} {numbered(w, p)}, {v} {most[p % len(most)]})")
             for p in range(w.parts())]
    for stride in sorted(strides(w, at), key=str):
        loop.firsts[stride] = first_sample(w, stride)
        far = f"splat (i32 {stride})"
        if isinstance(stride, str):
            far = w.broadcast("i32", stride if w.index == "i32" else w.add(
                f"trunc {w.index} {stride} to i32"))
        loop.offsets[stride] = lanes if stride == 1 else [
            w.add(f"mul nsw {v} {lane}, {far}") for lane in lanes]
        loop.held[stride] = f"%places{at}_{len(loop.held)}", len(w.lines)
        w.lines.append("")


def mask_samples(w: Writer, real: str) -> None:
    """All ones in the first `real` lanes."""
    base = words(w, f"real_{w.lanes}", [k < w.lanes for k in range(2 * w.lanes)],
                 w.add(f"sub {w.index} {w.lanes}, {real}"))
    w.open.real_lanes = [mask(w, base, p * w.native) for p in range(w.parts())]


def mask_chains(w: Writer, real: str) -> None:
    """All ones in the lanes of the first `real` samples: of each sample of the chains another
    number of them."""
    chains = w.lanes // CHAIN
    cells = [chain_of(w, k) < count for count in range(chains + 1) for k in range(chains)]
    masks = {}
    for p in range(CHAIN):
        up = w.add(f"add {w.index} {real}, {CHAIN - 1 - p}")
        count = w.add(f"udiv {w.index} {up}, {CHAIN}")
        base = words(w, f"chains_{chains}_{w.inside()}", cells,
                     w.add(f"mul {w.index} {count}, {chains}"))
        for group in range(0, w.parts(), CHAIN):
            masks[group + p] = mask(w, base, group // CHAIN * w.native)
    w.open.real_lanes = [masks[p] for p in range(w.parts())]


def keep_masks(w: Writer, at: int) -> None:
    """Keep the masks where those take them from whose vectors take turns."""
    word, align = w.type("w", True), w.size * w.native
    w.open.kept_masks = f"%masks{at}"
    w.stack.append(f"  {w.open.kept_masks} = alloca [{w.lanes} x i{w.bits}], align {align}")
    for p, mask in enumerate(w.open.real_lanes):
        a = w.beyond(w.open.kept_masks, f"i64 {p * w.native}", f"i{w.bits}")
        w.store(word, mask, a, align)


def words(w: Writer, name: str, ones: Sequence[bool], at: str) -> str:
    """The address of a cell of a table of words, of ones or of zeros."""
    word, name = f"i{w.bits}", f"@{w.module.name}.{name}"
    cells = ", ".join([f"{word} {-one}" for one in ones])
    section = f', section ".rodata.{name[1:]}"' if w.unit.elf else ""
    w.used.add(f"{name} = private unnamed_addr constant [{len(ones)} x {word}] "
               f"[{cells}]{section}, align 64")
    return w.beyond(name, f"{w.index} {at}", word)


def mask(w: Writer, base: str, lane: int) -> str:
    """Words of the lanes of a vector, from a table."""
    return w.load(w.type("w", True), w.beyond(base, f"i64 {lane}", f"i{w.bits}"), w.size)


def masked(w: Writer, parts: list[str]) -> list[str]:
    """`parts`, and +0 in the lanes that repeat the last sample."""
    if not w.open.real_lanes:
        return parts
    v, word = w.type("f", True), w.type("w", True)
    masks = w.open.real_lanes
    if w.part:
        own = w.beyond(w.open.kept_masks, f"{w.index} {w.part}", f"i{w.bits}")
        masks = [w.load(word, own, w.size * w.native)]
    words = [w.add(f"and {word} {mask}, " + w.add(f"bitcast {v} {part} to {word}"))
             for mask, part in zip(masks, parts, strict=True)]
    return [w.add(f"bitcast {word} {bits} to {v}") for bits in words]


def chain_of(w: Writer, number: int) -> int:
    """Which chain of samples a lane holds, of those of all vectors of the first samples: within
    128 bits those that are added first are half as far apart as they may be, so that `folded`
    needs one kind of shuffle."""
    inside = w.inside()
    place, turned = number % inside, 0
    for _ in range(inside.bit_length() - 1):
        turned = 2 * turned + place % 2
        place //= 2
    return number - number % inside + turned


def numbered(w: Writer, part: int) -> str:
    """The samples of a part of the lanes, from the round's first on, as a constant vector."""
    own = [f"i32 {w.open.samples[part * w.native + k]}" for k in range(w.native)]
    return f"<{', '.join(own)}>"


def in_rounds(w: Writer) -> list[list[int]]:
    """For each round of the lanes, the elements of its samples, in order."""
    width = ROUND[w.module.dtype]
    by = sorted(range(w.lanes), key=w.open.samples.__getitem__)
    return [by[first : first + width] for first in range(0, w.lanes, width)]


def store_order(w: Writer, index: int) -> list[tuple[int, list[int]]]:
    """The vectors of the lanes, and the lanes of each, in the order in which they store: of
    those that repeat a sample, whose masks are 0, none comes after the one that has it for its
    own."""
    n = w.native
    vectors = [w.open.samples[p * n : (p + 1) * n] for p in range(w.parts())]
    if w.open.whole or not w.open.affine[index][0]:
        return [(p, list(range(n))) for p in range(len(vectors))]
    chain = CHAIN if w.open.chains else 1
    order = sorted(range(len(vectors)), key=lambda p: (vectors[p][0] % chain, p), reverse=True)
    return [(p, sorted(range(n), key=vectors[p].__getitem__, reverse=True)) for p in order]


def strides(w: Writer, start: int) -> list[Stride]:
    """The strides of all indices that are made of a lanes loop's own, in an order that is the same
    under any hash seed: that of a set of integers is, that of a set of texts is not."""
    found: dict[int, Stride] = {start: 1}
    for at in range(start + 1, len(w.func.ops)):
        opcode, reads, _ = w.func.ops[at]
        if opcode in ("iadd", "imul") and w.varying[at]:
            mine = [found[r] for r in reads if r in found]
            if mine:
                found[at] = product_stride(w, mine[0], reads) if opcode == "imul" else mine[0]
    made = found.values()
    return [*{stride for stride in made if isinstance(stride, int)},
            *sorted({stride for stride in made if isinstance(stride, str)})]


def product_stride(w: Writer, stride: Stride, reads: tuple[int, ...]) -> Stride:
    """That of a product with what has a stride: with a constant, above or inside the loop, or
    of the sample itself with any index that is made above it."""
    for r in reads:
        if w.func.ops[r][0] == "index" and isinstance(stride, int):
            return stride * int(w.func.ops[r][2])
    above = [w.scalar[r] for r in reads if not w.varying[r] and r in w.scalar]
    if stride != 1 or not above:
        raise ValueError("a sample's index is multiplied by a constant only")
    return above[0]


def lane_index(w: Writer, opcode: str, reads: tuple[int, ...]) -> tuple[Stride, str | None]:
    """The sum or the product of an index that differs from lane to lane and one that does not."""
    a, b = reads
    if not w.varying[a]:
        a, b = b, a
    stride, uniform = w.open.affine[a]
    if w.varying[b]:
        raise ValueError("an index adds no two samples' indices")
    other = w.scalar[b]
    if opcode == "imul":
        if uniform is not None:
            uniform = w.add(f"mul nsw {w.index} {uniform}, {other}")
        return product_stride(w, stride, reads), uniform
    if uniform is not None:
        other = w.add(f"add nsw {w.index} {uniform}, {other}")
    return stride, other

"""Loads, stores and lookups."""

from __future__ import annotations

from typing import Any

from ncc.machine.model import PAGE
from ncc.passes.emit.llvm.addresses import (
    address,
    all_addresses,
    contiguous,
    element_type,
    lane_addresses,
    of_turn,
    pointer,
    pointer_type,
    vector_addresses,
)
from ncc.passes.emit.llvm.lanes import numbered, store_order
from ncc.passes.emit.llvm.tiles import delayed, is_tile, load_tile, move, store_tile
from ncc.passes.emit.llvm.writer import Writer


def write_load(w: Writer, at: int) -> None:
    """Write a load, or leave it to its tile."""
    _, reads, imm = w.func.ops[at]
    name, offset = imm
    if name in w.by_value:
        w.scalar[at] = f"%{name}"
    # Most of the ops of straight code.
    elif (not reads and name in w.plain and w.half is None and (offset or at in w.windows)):
        w.scalar[at] = loaded = f"%l{at}"
        base, far = pointer(w, at)
        w.lines.append(f"  %a{at} = getelementptr inbounds {w.real}, ptr {base}, i64 {far}")
        w.lines.append(f"  {loaded} = load {w.real}, ptr %a{at}, align {w.bits // 8}")
    elif w.varying[at] and is_tile(w, at):
        load_tile(w, at)
    elif name in w.private and delayed(w, at):
        index = w.scalar[reads[0]] if reads else None
        w.tile.addresses[at] = address(w, name, offset, index, w.lanes)
    else:
        if w.loops and w.loops[-1][1] and streams(w, at):
            prefetch(w, name, w.scalar[reads[0]])
        load(w, at, reads, imm, w.varying[at])


def write_store(w: Writer, at: int) -> None:
    """Write a store, or leave it to its tile."""
    _, reads, imm = w.func.ops[at]
    name, offset = imm
    if at in w.tile.moves:
        move(w, w.tile.moves[at])
    elif w.tile.waiting is not None:
        index = w.scalar[reads[1]] if len(reads) > 1 else None
        first, stores = w.tile.waiting
        stores.append((reads[0] - first, address(w, name, offset, index, w.lanes)))
    elif is_tile(w, at):
        store_tile(w, at)
    elif at in w.windows:
        base, far = pointer(w, at)
        w.lines.append(f"  %a{at} = getelementptr inbounds {w.real}, ptr {base}, i64 {far}")
        w.lines.append(f"  store {w.real} {w.scalar[reads[0]]}, ptr %a{at}, align {w.bits // 8}")
    else:
        store(w, reads, imm)
    if w.rows and name == "work":
        w.lines += [f"  br label %row{at}", f"row{at}:"]


def streams(w: Writer, at: int) -> bool:
    """Whether the loads from here on, in a loop of sums, are of a block's weights: neighbours,
    the same for all lanes. They follow one another in memory and are read once a round of
    samples, so those of a large net come from afar each time."""
    opcode, reads, (name, offset) = w.func.ops[at]
    return (w.native > 1 and len(reads) == 1 and offset == 0 and w.types[at] == "f"
            and name not in w.private and not w.varying[at]
            and w.func.ops[at + 1] == (opcode, reads, (name, 1)))


def prefetch(w: Writer, name: str, index: str) -> None:
    """Write a prefetch of what a later iteration loads, a page on."""
    one = address(w, name, 0, index)
    ahead = w.add(f"getelementptr i8, ptr {one}, i64 {PAGE}")  # past the end, at the end
    w.lines.append(f"  call void @llvm.prefetch.p0(ptr {ahead}, i32 0, i32 3, i32 1)")
    w.used.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")


def load(w: Writer, at: int, reads: tuple[int, ...], imm: Any, varying: bool) -> None:
    """Write a load of a scalar, or of vectors: from private memory, of neighbours, or by lanes."""
    name, offset = imm
    size = w.bits // 8
    if name in w.private:
        index = w.scalar[reads[0]] if reads else None
        base = of_turn(w, address(w, name, offset, index, w.lanes))
        v = w.type("f", True)
        align = size * w.native
        w.vectors[at] = [""] * w.parts()
        for p in w.window():
            a = base if p == 0 else w.add(
                f"getelementptr inbounds {w.real}, ptr {base}, i64 {p * w.native}")
            w.vectors[at][p] = w.add(f"load {v}, ptr {a}, align {align}")
    elif varying and name in w.indices:
        if contiguous(w, reads[0]):
            w.vectors[at] = [w.add(f"load <{w.native} x i32>, ptr {a}, align 4")
                             for a in vector_addresses(w, name, offset, reads[0])]
        else:
            w.vectors[at] = [inserted(w, "i32", [
                w.add(f"load i32, ptr {a}, align 4") for a in lane_addresses(
                    w, name, offset, reads[0], p)]) for p in range(w.parts())]
    elif varying and reads[0] not in w.open.affine:
        base = address(w, name, offset, None)
        w.vectors[at] = [gathered(w, name, base, part) for part in w.vectors[reads[0]]]
    elif varying and contiguous(w, reads[0]):
        v = w.type("f", True)
        w.vectors[at] = [w.add(f"load {v}, ptr {a}, align {size}")
                         for a in vector_addresses(w, name, offset, reads[0])]
    elif varying:
        t, v = w.real, w.type("f", True)
        w.vectors[at] = []
        for p in range(w.parts()):
            if w.gathers and w.native > 1 and not w.open.whole:
                a = all_addresses(w, name, offset, reads[0], p)
                w.vectors[at].append(gather(w, a, "f"))
                continue
            value = "poison"
            for lane, a in enumerate(lane_addresses(w, name, offset, reads[0], p)):
                one = w.add(f"load {t}, {pointer_type(w, name)} {a}, align {size}")
                if w.native == 1:
                    value = one
                else:
                    value = w.add(f"insertelement {v} {value}, {t} {one}, i64 {lane}")
            w.vectors[at].append(value)
    else:
        table = w.tables.get(name)
        a = address(w, name, offset, w.scalar[reads[0]] if reads else None)
        if name in w.indices or table is not None and table.type == "i":
            stored = element_type(w, name)
            loaded = w.add(f"load {stored}, {pointer_type(w, name)} {a}, "
                           f"align {int(stored[1:]) // 8}")
            w.scalar[at] = widened(w, loaded, stored)
        else:
            t = w.real if table is None or table.type == "f" else f"i{w.bits}"
            w.scalar[at] = w.add(f"load {t}, {pointer_type(w, name)} {a}, align {size}")


def widened(w: Writer, loaded: str, stored: str) -> str:
    """An index of the type `stored` as one of the machine's."""
    if stored == w.index:
        return loaded
    word = "trunc" if int(stored[1:]) > int(w.index[1:]) else "zext"
    return w.add(f"{word} {stored} {loaded} to {w.index}")


def inserted(w: Writer, element: str, lanes: list[str]) -> str:
    """A vector of scalars; of a single lane, the scalar."""
    value = "poison"
    for lane, one in enumerate(lanes):
        value = one if w.native == 1 else w.add(
            f"insertelement <{w.native} x {element}> {value}, {element} {one}, i64 {lane}")
    return value


def gathered(w: Writer, name: str, base: str, indices: str) -> str:
    """The reals at a vector of indices of 32 bits, each from `base`, which is in `name`."""
    n = w.native
    if w.gathers and n > 1:
        return gather(w, w.add(f"getelementptr inbounds {w.real}, ptr {base}, "
                               f"<{n} x i32> {indices}"), "f")
    lanes = [indices] if n == 1 else [
        w.add(f"extractelement <{n} x i32> {indices}, i64 {lane}") for lane in range(n)]
    to = pointer_type(w, name)
    lanes = [w.add(f"getelementptr inbounds {w.real}, {to} {base}, i32 {lane}") for lane in lanes]
    return inserted(w, w.real, [
        w.add(f"load {w.real}, {to} {a}, align {w.bits // 8}") for a in lanes])


def gather(w: Writer, addresses: str, letter: str) -> str:
    """A load of a real or a word for each lane."""
    n, v = w.native, w.type(letter, True)
    kind = f"v{n}{'f' if letter == 'f' else 'i'}{w.bits}"
    name = f"{v} @llvm.masked.gather.{kind}.v{n}p0"
    w.used.add(f"declare {name}(<{n} x ptr>, i32, <{n} x i1>, {v})")
    return w.add(f"call {name}(<{n} x ptr> {addresses}, i32 {w.bits // 8}, "
                 f"<{n} x i1> splat (i1 true), {v} poison)")


def store(w: Writer, reads: tuple[int, ...], imm: Any) -> None:
    """Write a store, as `load` loads."""
    name, offset = imm
    size = w.bits // 8
    value = reads[0]
    if name in w.private:
        base = of_turn(w, address(
            w, name, offset, w.scalar[reads[1]] if len(reads) > 1 else None, w.lanes))
        v = w.type("f", True)
        for p, part in enumerate(w.vectors[value]):
            a = base if p == 0 else w.add(
                f"getelementptr inbounds {w.real}, ptr {base}, i64 {p * w.native}")
            w.lines.append(f"  store {v} {part}, ptr {a}, align {size * w.native}")
    elif len(reads) > 1 and w.varying[reads[1]] and contiguous(w, reads[1]):
        v = w.type("f", True)
        for part, a in zip(w.vectors[value],
                           vector_addresses(w, name, offset, reads[1]), strict=True):
            w.lines.append(f"  store {v} {part}, ptr {a}, align {size}")
    elif len(reads) > 1 and w.varying[reads[1]]:
        for p, lanes in store_order(w, reads[1]):
            part = w.vectors[value][p]
            if w.gathers and w.native > 1 and not w.open.whole:
                v, n = w.type("f", True), w.native
                call = (f"void @llvm.masked.scatter.v{n}f{w.bits}.v{n}p0({v}",
                        f"<{n} x ptr>", f"<{n} x i1>")
                w.used.add(f"declare {call[0]}, {call[1]}, i32, {call[2]})")
                a = all_addresses(w, name, offset, reads[1], p)
                # Not of the lanes that repeat the last sample: they may have other values.
                own = w.add(f"icmp ule <{n} x i32> {numbered(w, p)}, {w.open.most}")
                w.lines.append(f"  call {call[0]} {part}, {call[1]} {a}, i32 {size}, "
                               f"{call[2]} {own})")
                continue
            addresses = lane_addresses(w, name, offset, reads[1], p)
            for lane in lanes:
                one, a = part, addresses[lane]
                if w.native > 1:
                    one = w.add(f"extractelement {w.type('f', True)} {part}, i64 {lane}")
                w.lines.append(f"  store {w.real} {one}, ptr {a}, align {size}")
    else:
        a = address(w, name, offset, w.scalar[reads[1]] if len(reads) > 1 else None)
        w.lines.append(f"  store {w.real} {w.scalar[value]}, ptr {a}, align {size}")


def lookup(w: Writer, at: int) -> None:
    """Write a lookup of a word in a table."""
    _, reads, table = w.func.ops[at]
    if w.varying[at]:
        w.vectors[at] = lookup_lanes(w, table, reads[0])
        return
    word = f"i{w.bits}"
    place = w.add(f"getelementptr inbounds {word}, {w.table} "
                  f"@{w.module.name}.{table}, {word} {w.scalar[reads[0]]}")
    w.scalar[at] = w.add(f"load {word}, {w.table} {place}, align {w.bits // 8}")


def lookup_lanes(w: Writer, table: str, index: int) -> list[str]:
    """A word for each lane."""
    word, v = f"i{w.bits}", w.type("w", True)
    out = []
    for part in w.vectors[index]:
        if w.gathers and w.native > 1:
            a = w.add(f"getelementptr inbounds {word}, ptr @{w.module.name}.{table}, {v} {part}")
            out.append(gather(w, a, "w"))
            continue
        value = "poison"
        for lane in range(w.native):
            one = part
            if w.native > 1:
                one = w.add(f"extractelement {v} {part}, i64 {lane}")
            a = w.add(f"getelementptr inbounds {word}, {w.table} "
                      f"@{w.module.name}.{table}, {word} {one}")
            got = w.add(f"load {word}, {w.table} {a}, align {w.bits // 8}")
            value = got if w.native == 1 else w.add(
                f"insertelement {v} {value}, {word} {got}, i64 {lane}")
        out.append(value)
    return out

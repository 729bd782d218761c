"""Loads, stores and lookups."""

from __future__ import annotations

from ncc.machine.model import PAGE
from ncc.passes.emit.llvm.addresses import (
    address,
    all_addresses,
    beside,
    contiguous,
    element_type,
    lane_addresses,
    place,
    pointer,
    pointer_type,
    private_place,
    vector_addresses,
)
from ncc.passes.emit.llvm.lanes import numbered, store_order
from ncc.passes.emit.llvm.tiles import delayed, is_tile, load_tile, move, store_tile
from ncc.passes.emit.llvm.writer import Writer


def write_load(w: Writer, at: int) -> None:
    """Write a load, or leave it to its tile."""
    _, reads, (name, offset) = w.func.ops[at]
    if name in w.by_value:
        w.scalar[at] = f"%{name}"
    # Most of the ops of straight code.
    elif not reads and name in w.plain and w.half is None and (offset or at in w.windows):
        w.scalar[at] = loaded = f"%l{at}"
        base, far = pointer(w, at)
        w.lines.append(f"  %a{at} = getelementptr inbounds {w.real}, ptr {base}, i64 {far}")
        w.lines.append(f"  {loaded} = load {w.real}, ptr %a{at}, align {w.size}")
    elif name in w.private:
        if delayed(w, at):
            w.tile.addresses[at] = place(w, at, w.lanes)
        else:
            load_private(w, at)
    elif not w.varying[at]:
        if w.loops and w.loops[-1][1] and streams(w, at):
            prefetch(w, at)
        load_scalar(w, at)
    elif is_tile(w, at):
        load_tile(w, at)
    else:
        load_lanes(w, at)


def streams(w: Writer, at: int) -> bool:
    """Whether the loads from here on, in a loop of sums, are of a block's weights: neighbours,
    the same for all lanes. They follow one another in memory and are read once a round of
    samples, so those of a large net come from afar each time."""
    opcode, reads, (name, offset) = w.func.ops[at]
    return (w.native > 1 and len(reads) == 1 and offset == 0 and w.types[at] == "f"
            and w.func.ops[at + 1] == (opcode, reads, (name, 1)))


def prefetch(w: Writer, at: int) -> None:
    """Write a prefetch of what a later iteration loads, a page on."""
    one = place(w, at)
    ahead = w.add(f"getelementptr i8, ptr {one}, i64 {PAGE}")  # past the end, at the end
    w.lines.append(f"  call void @llvm.prefetch.p0(ptr {ahead}, i32 0, i32 3, i32 1)")
    w.used.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")


def load_scalar(w: Writer, at: int) -> None:
    """Write a load of a value that is the same in all lanes."""
    name = w.func.ops[at][2][0]
    a, stored, to = place(w, at), element_type(w, name), pointer_type(w, name)
    if w.types[at] == "i":
        loaded = w.load(stored, a, int(stored[1:]) // 8, to)
        w.scalar[at] = widened(w, loaded, stored, name in w.unit.signed)
    else:
        w.scalar[at] = w.load(stored, a, w.size, to)


def widened(w: Writer, loaded: str, stored: str, signed: bool) -> str:
    """An index of the type `stored` as one of the machine's."""
    if stored == w.index:
        return loaded
    word = "trunc" if int(stored[1:]) > int(w.index[1:]) else "sext" if signed else "zext"
    return w.add(f"{word} {stored} {loaded} to {w.index}")


def load_private(w: Writer, at: int) -> None:
    """Write a load of vectors from where nothing else is."""
    base, v = private_place(w, at), w.type("f", True)
    w.vectors[at] = [""] * w.parts()
    for p in w.window():
        w.vectors[at][p] = w.load(v, beside(w, base, p), w.size * w.native)


def load_lanes(w: Writer, at: int) -> None:
    """Write a load of what differs from lane to lane: of neighbours as vectors, or lane by lane."""
    _, (index,), (name, offset) = w.func.ops[at]
    indices, to = name in w.indices, pointer_type(w, name)
    element, align = ("i32", 4) if indices else (w.real, w.size)
    if index not in w.open.affine and not indices:
        base = address(w, name, offset, None)
        w.vectors[at] = [gathered(w, base, to, part) for part in w.vectors[index]]
    elif contiguous(w, index):
        w.vectors[at] = [w.load(f"<{w.native} x {element}>", a, align)
                         for a in vector_addresses(w, name, offset, index)]
    elif indices:
        w.vectors[at] = [w.inserted(element, [
            w.load(element, a, align) for a in lane_addresses(w, name, offset, index, p)])
            for p in range(w.parts())]
    elif w.gathers and w.native > 1 and not w.open.whole:
        w.vectors[at] = [gather(w, all_addresses(w, name, offset, index, p), "f")
                         for p in range(w.parts())]
    else:
        w.vectors[at] = [w.inserted(element, (
            w.load(element, a, align, to) for a in lane_addresses(w, name, offset, index, p)))
            for p in range(w.parts())]


def gathered(w: Writer, base: str, to: str, indices: str) -> str:
    """The reals at a vector of indices of 32 bits, each from `base`."""
    n = w.native
    if w.gathers and n > 1:
        return gather(w, w.beyond(base, f"<{n} x i32> {indices}"), "f")
    lanes = [w.extract("i32", indices, lane) for lane in range(n)]
    places = [w.beyond(base, f"i32 {lane}", to=to) for lane in lanes]
    return w.inserted(w.real, [w.load(w.real, a, w.size, to) for a in places])


def gather(w: Writer, addresses: str, letter: str) -> str:
    """A load of a real or a word for each lane."""
    n, v = w.native, w.type(letter, True)
    kind = f"v{n}{'f' if letter == 'f' else 'i'}{w.bits}"
    name = f"{v} @llvm.masked.gather.{kind}.v{n}p0"
    w.used.add(f"declare {name}(<{n} x ptr>, i32, <{n} x i1>, {v})")
    return w.add(f"call {name}(<{n} x ptr> {addresses}, i32 {w.size}, "
                 f"<{n} x i1> splat (i1 true), {v} poison)")


def write_store(w: Writer, at: int) -> None:
    """Write a store, or leave it to its tile."""
    _, reads, (name, _) = w.func.ops[at]
    if at in w.tile.moves:
        move(w, w.tile.moves[at])
    elif w.tile.waiting is not None:
        first, stores = w.tile.waiting
        stores.append((reads[0] - first, place(w, at, w.lanes)))
    elif is_tile(w, at):
        store_tile(w, at)
    elif at in w.windows:
        base, far = pointer(w, at)
        w.lines.append(f"  %a{at} = getelementptr inbounds {w.real}, ptr {base}, i64 {far}")
        w.lines.append(f"  store {w.real} {w.scalar[reads[0]]}, ptr %a{at}, align {w.size}")
    elif name in w.private:
        base, v = private_place(w, at), w.type("f", True)
        for p, part in enumerate(w.vectors[reads[0]]):
            w.store(v, part, beside(w, base, p), w.size * w.native)
    elif len(reads) > 1 and w.varying[reads[1]]:
        store_lanes(w, at)
    else:
        w.store(w.real, w.scalar[reads[0]], place(w, at), w.size)
    if w.rows and name == "work":
        w.lines += [f"  br label %row{at}", f"row{at}:"]


def store_lanes(w: Writer, at: int) -> None:
    """Write a store to a place for each lane, as `load_lanes` loads."""
    _, (value, index), (name, offset) = w.func.ops[at]
    v = w.type("f", True)
    if contiguous(w, index):
        for part, a in zip(w.vectors[value], vector_addresses(w, name, offset, index), strict=True):
            w.store(v, part, a, w.size)
        return
    for p, lanes in store_order(w, index):
        part = w.vectors[value][p]
        if w.gathers and w.native > 1 and not w.open.whole:
            scatter(w, part, all_addresses(w, name, offset, index, p), p)
            continue
        addresses = lane_addresses(w, name, offset, index, p)
        for lane in lanes:
            w.store(w.real, w.extract(w.real, part, lane), addresses[lane], w.size)


def scatter(w: Writer, value: str, addresses: str, part: int) -> None:
    """A store of a real for each lane of a part; not of those that repeat the last sample, as they
    may have other values."""
    n, v = w.native, w.type("f", True)
    name = f"@llvm.masked.scatter.v{n}f{w.bits}.v{n}p0"
    w.used.add(f"declare void {name}({v}, <{n} x ptr>, i32, <{n} x i1>)")
    own = w.add(f"icmp ule <{n} x i32> {numbered(w, part)}, {w.open.most}")
    w.lines.append(f"  call void {name}({v} {value}, <{n} x ptr> {addresses}, i32 {w.size}, "
                   f"<{n} x i1> {own})")


def lookup(w: Writer, at: int) -> None:
    """Write a lookup of a word in a table, or of one for each lane."""
    _, (index,), table = w.func.ops[at]
    word, v, base = f"i{w.bits}", w.type("w", True), f"@{w.module.name}.{table}"

    def found(one: str) -> str:
        return w.load(word, w.beyond(base, f"{word} {one}", word, w.table), w.size, w.table)

    if not w.varying[at]:
        w.scalar[at] = found(w.scalar[index])
    elif w.gathers and w.native > 1:
        w.vectors[at] = [gather(w, w.beyond(base, f"{v} {part}", word), "w")
                         for part in w.vectors[index]]
    else:
        w.vectors[at] = [w.inserted(word, (
            found(w.extract(word, part, lane)) for lane in range(w.native)))
            for part in w.vectors[index]]

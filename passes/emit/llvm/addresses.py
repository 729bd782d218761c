"""Addresses of elements of buffers and tables, of one or of the lanes of a vector."""

from __future__ import annotations

from ncc.passes.emit.llvm.writer import Stride, Writer

INDEX = {"load": 0, "store": 1, "accumulate": 2, "accrue": 2}  # which of the reads is the index


def place(w: Writer, at: int, scale: int = 1) -> str:
    """The address of what an op reads or writes."""
    opcode, reads, (name, offset) = w.func.ops[at]
    k = INDEX[opcode]
    return address(w, name, offset, w.scalar[reads[k]] if len(reads) > k else None, scale)


def address(w: Writer, name: str, offset: int, index: str | None, scale: int = 1) -> str:
    """The address of element (index + offset) * scale."""
    base = f"@{w.module.name}.{name}" if name in w.tables else f"%{name}"
    if index is None:
        if offset == 0:  # a gep by 0 makes LLVM half as slow again over a whole function
            return base
        index = str(offset * scale)
    else:
        if offset:
            index = w.add(f"add nsw {w.index} {index}, {offset}")
        if scale != 1:
            index = w.add(f"mul nsw {w.index} {index}, {scale}")
    return w.beyond(base, f"{w.index} {index}", element_type(w, name), pointer_type(w, name))


def pointer_type(w: Writer, name: str) -> str:
    """The type of a pointer to a table or a buffer."""
    return w.table if name in w.tables else "ptr"


def element_type(w: Writer, name: str) -> str:
    """The type of the elements of a table or a buffer in memory."""
    table = w.tables.get(name)
    if name in w.indices:
        return "i32"
    if table is None or table.type == "f":
        return w.real
    return w.unit.cells[name] if table.type == "i" else f"i{w.bits}"


def beside(w: Writer, base: str, part: int | str) -> str:
    """The address of a part of the lanes: by its number, or its first lane's at run time."""
    if isinstance(part, str):
        return w.beyond(base, f"{w.index} {part}")
    return base if part == 0 else w.beyond(base, f"i64 {part * w.native}")


def private_place(w: Writer, at: int) -> str:
    """The address of the lanes' private elements that a load or a store is of: of the vector whose
    turn it is, or of all of them."""
    base = place(w, at, w.lanes)
    return beside(w, base, w.part) if w.part else base


def pointer(w: Writer, at: int) -> tuple[str, int]:
    """The pointer from which the load or store at `at` is addressed, and how far from it."""
    name, element = w.func.ops[at][2]
    window = w.windows.get(at)
    if window is None:
        return f"%{name}", element
    if window.number == w.pointers:
        w.pointers += 1
        center = address(w, name, window.center, None)
        # No instruction, but one that LLVM does not look into: it would add up the distances.
        w.lines.append(f'  %w{window.number} = call ptr asm "", "=r,0"(ptr {center})')
    return f"%w{window.number}", element - window.center


def contiguous(w: Writer, index: int) -> bool:
    """Whether the lanes of every round lie side by side."""
    return w.open.whole and w.open.affine[index][0] == 1


def vector_addresses(w: Writer, name: str, offset: int, index: int) -> list[str]:
    """Where each vector of consecutive elements starts."""
    uniform, first = w.open.affine[index][1], w.open.step
    if uniform is not None:
        first = w.add(f"add nsw {w.index} {uniform}, {first}")
    base = address(w, name, offset, first)
    element, to = element_type(w, name), pointer_type(w, name)
    return [base, *[w.beyond(base, f"{w.index} {part * w.native}", element, to)
                    for part in range(1, w.parts())]]


def lane_addresses(w: Writer, name: str, offset: int, index: int, part: int) -> list[str]:
    """The address of each lane of a part of the lanes."""
    stride, uniform = w.open.affine[index]
    element = element_type(w, name)
    base = address(w, name, offset, uniform)
    if w.open.whole:
        return strided(w, base, stride, w.open.step, element, part * w.native)
    base = first_lane(w, base, stride, element, pointer_type(w, name))
    if w.lanes == 1:
        return [base]
    lanes = [w.add(f"extractelement <{w.native} x i32> {w.open.offsets[stride][part]}, "
                   f"i64 {lane}") for lane in range(w.native)]
    return [w.beyond(base, f"i32 {lane}", element) for lane in lanes]


def strided(w: Writer, base: str, stride: Stride, sample: str, element: str, lane: int = 0
            ) -> list[str]:
    """The addresses of a vector's lanes from number `lane` on after that of `sample`, of whole
    rounds."""
    assert isinstance(stride, int)
    first = w.add(f"mul nsw {w.index} {sample}, {stride}")
    base = w.beyond(base, f"{w.index} {first}", element)
    return [w.beyond(base, f"{w.index} {stride * k}", element)
            for k in range(lane, lane + w.native)]


def part_addresses(w: Writer, name: str, offset: int, index: int, part: str) -> list[str]:
    """`lane_addresses` of the part whose first lane has a number known at run time."""
    stride, uniform = w.open.affine[index]
    base = address(w, name, offset, uniform)
    if w.open.whole:
        sample = w.add(f"add nsw {w.index} {w.open.step}, {part}")
        return strided(w, base, stride, sample, w.real)
    base = first_lane(w, base, stride)
    here = w.beyond(kept_offsets(w, stride), f"{w.index} {part}", "i32")
    found = []
    for lane in range(w.native):
        far = w.load("i32", w.beyond(here, f"i64 {lane}", "i32"), 4)
        found.append(w.beyond(base, f"i32 {far}"))
    return found


def kept_offsets(w: Writer, stride: Stride) -> str:
    """An array of the lanes' offsets, which are kept there where they are made."""
    places, hole = w.open.held[stride]
    if not w.lines[hole]:
        w.stack.append(f"  {places} = alloca [{w.lanes} x i32], align 64")
        v = f"<{w.native} x i32>"
        w.lines[hole] = "\n".join([
            f"  {places}_{p} = getelementptr inbounds i32, ptr {places}, i64 {p * w.native}\n"
            f"  store {v} {lanes}, ptr {places}_{p}, align {4 * w.native}"
            for p, lanes in enumerate(w.open.offsets[stride])])
    return places


def first_lane(w: Writer, base: str, stride: Stride, element: str = "", to: str = "ptr") -> str:
    """The address of the element of the round's first sample."""
    return w.beyond(base, f"{w.index} {w.open.firsts[stride]}", element, to)


def all_addresses(w: Writer, name: str, offset: int, index: int, part: int) -> str:
    """A vector of the lanes' addresses, for machines that gather and scatter."""
    stride, uniform = w.open.affine[index]
    base = first_lane(w, address(w, name, offset, uniform), stride)
    return w.beyond(base, f"<{w.native} x i32> {w.open.offsets[stride][part]}")

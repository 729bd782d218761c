"""The C header of a compiled net, and the names and the hash that it carries.

Nothing that came from a file stands in it unescaped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import NONE, Graph, Ints
from ncc.ir.labels import covering, digits, titled
from ncc.ir.plan import FORWARD, Plan
from ncc.ir.ssa import Buffer, Func, Module
from ncc.machine.header_docs import DOCS, work_size
from ncc.scalar.activations import FREE
from ncc.scalar.expressions import expression
from ncc.scalar.opcodes import CONTROL, OPCODES

ABI_VERSION = 1
SMALL = 48  # neurons: up to here every neuron's slots are listed, above it runs of neurons alike
LINES = 40  # of such runs

# ---- names


def c_identifier(stem: str) -> str:
    """A C prefix for a file's stem: `2-layers` is `n2_layers`, '' is `net`.

    A prefix never stands alone, so a keyword may be one: `int_forward`, `xor_pack`.
    """
    name = "".join([c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in stem])
    if not name:
        return "net"
    if name[0].isdigit():
        name = "n" + name
    return name


def macro(name: str) -> str:
    """The prefix of the macros of the net `name`, a C identifier, and of no other net: NET of net,
    net of NET, Net of Net."""
    return name if name.lower() != name != name.upper() else name.swapcase()


# ---- the hash


def graph_hash(graph: Graph) -> str:
    """SHA-256 (hex) of the net: structure, order, parameters and their values, expressions.

    Spelling has no part in it: not the format, the names of ties, the codes and blanks of `fn`
    lines, the order of the constants, or functions that no neuron has.
    """
    digest = hashlib.sha256(b"ncc net 1\n")

    def add(title: str, data: bytes) -> None:
        digest.update(f"{title} {len(data)}\n".encode() + data)

    add("starts", graph.starts.astype("<i8").tobytes())
    add("sources", graph.sources.astype("<i4").tobytes())
    for title, codes in (("weights", graph.weights), ("biases", graph.biases)):
        constant = (codes < 0) & (codes != NONE)
        add(title, np.where(constant, -1, codes).astype("<i4").tobytes())
        add("constants", graph.constants[-1 - codes[constant]].astype("<f8").tobytes())
    acts, programs = _activations(graph)
    add("activations", acts.astype("<i4").tobytes())
    add("functions", "\n".join(programs).encode())
    add("aggregations", graph.aggregations.astype("<i1").tobytes())
    add("outputs", graph.outputs.astype("<i4").tobytes())
    if len(graph.states):
        add("states", graph.states.astype("<i4").tobytes())
    values = np.where(np.isnan(graph.values), np.nan, graph.values)  # one NaN for all
    add("values", values.astype("<f8").tobytes())
    return digest.hexdigest()


def _activations(graph: Graph) -> tuple[Ints, list[str]]:
    """Codes, a file's own numbered by first use, equal expressions alike; and these expressions."""
    codes, first = np.unique(graph.activations, return_index=True)
    acts = graph.activations.copy()
    programs: dict[str, int] = {}
    for code in codes[np.argsort(first)].tolist():
        if code >= FREE:
            nodes = expression(code, graph.functions).nodes
            text = ";".join([f"{n.op} {n.args} {n.value.hex()}" for n in nodes])
            number = programs.setdefault(text, len(programs))
            acts[graph.activations == code] = FREE + number
    return acts, list(programs)


# ---- text


def comment(text: str) -> str:
    """`text` as it may stand in a C comment: printable ASCII that ends no comment, opens none, and
    makes no trigraph and no continued line."""
    shown = _ascii(text).replace("\\", "/")
    for pair in ("*/", "/*", "??"):
        while pair in shown:
            shown = shown.replace(pair, f"{pair[0]} {pair[1]}")
    return shown


def string(text: str) -> str:
    """`text` as a C string literal."""
    return '"' + "".join([f"\\{c}" if c in '\\"?' else c for c in _ascii(text)]) + '"'


def _ascii(text: str) -> str:
    return "".join([c if " " <= c <= "~" else "?" for c in text])


def parameter(buffer: Buffer, real: str) -> str:
    """A buffer as a parameter of a prototype."""
    if buffer.kind in ("work", "private"):
        return "void *work"
    if buffer.kind == "value":
        return f"{real} {buffer.name}"
    kind = {"in": f"const {real}", "indices": "const uint32_t"}.get(buffer.kind, real)
    return f"{kind} *{buffer.name}"


def prototype(func: Func, name: str, real: str) -> str:
    count = ["size_t n"] if func.counted else []
    parameters = ", ".join(dict.fromkeys(count + [parameter(b, real) for b in func.buffers]))
    return f"void {name}_{func.name}({parameters});"


def header(plan: Plan, module: Module, *, name: str, dtype: str, embedded: bool, target: str,
           target_note: str, hash: str, align: int, graph: Graph | None = None, soft: bool = False,
           train: str = "", stacks: Mapping[str, int] | None = None) -> str:
    """The header of the object that `module`, the last one of the pipeline, becomes.

    `name` prefixes every symbol and `macro(name)` every macro; `align` is what `packed` and `work`
    are aligned to, in bytes; `target_note` is the triple, and
    `soft` says that the target's arithmetic is calls; `stacks` are the bytes of stack that each
    function takes, where that is known; `graph` is the net as the file says it,
    whose parameters are described (else the plan's, in which passes may have removed some).
    """
    g = plan.graph if graph is None else graph
    real = "float" if dtype == "f32" else "double"
    size = 4 if dtype == "f32" else 8
    m = macro(name)
    funcs = {f.name: f for f in module.funcs if f.exported}
    pack = funcs.get("pack")
    packed = next((b.size for b in pack.buffers if b.name == "packed"), 0) if pack else 0
    work = work_size(funcs["forward"]) * size if "forward" in funcs else 0
    batch = work_size(funcs["forward_batch"]) * size if "forward_batch" in funcs else 0
    numbers = {
        "INPUTS": (g.n_inputs, f"{real}s of a sample x"),
        "OUTPUTS": (len(g.outputs), f"{real}s of a result y"),
        "PARAMS": (g.n_params, f"{real}s of the canonical parameters"),
        "PACKED": (packed, f"{real}s that {name}_pack writes" if pack else "the object has them"),
        "WORK_BYTES": (work, f"of `work` for {name}_forward"),
        "BATCH_WORK_BYTES": (batch, f"of `work` for {name}_forward_batch, whatever n is"),
        **_more_sizes(funcs, name, size),
        **_state_sizes(funcs, real, size),
        "ALIGN": (align, "bytes: `packed` and `work` begin at a multiple"),
        **({"STACK_BYTES": (max(stacks.values()), "of stack that a function takes at most")}
           if stacks else {}),
        "ABI_VERSION": (ABI_VERSION, ""),
    }
    width = max(map(len, numbers)) + len(m) + 1
    defines = []
    for title, (value, note) in numbers.items():
        line = f"#define {f'{m}_{title}':<{width}} {value}"
        defines.append(line + (f"  /* {note} */" if note else ""))
    defines.append(f"#define {f'{m}_HASH':<{width}} {string(hash)}")
    defines.append(f"#define {f'{m}_TARGET':<{width}} {string(target)}")
    if train:
        defines.append(f"#define {f'{m}_TRAIN':<{width}} {string(train)}  /* loss, optimizer */")
    defines += ["", *aligned(m, f"{m}_WORK_BYTES")]
    about = _about(g, module, name, real, embedded, target, target_note, soft)
    parts = [block(about), f"#ifndef {m}_NCC_H", f"#define {m}_NCC_H", "", "#include <stddef.h>",
             "", *defines, "", "#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    for func in funcs.values():
        about = DOCS[func.name](m, real, func) if func.name in DOCS else []
        if stacks and about:
            about += [f"It takes {stacks[func.name]} bytes of stack"
                      + (", and what the runtime takes." if soft else ".")]
        parts += [block(about) if about else "",
                  prototype(func, name, real), ""]
    parts += ["#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {m}_NCC_H */", ""]
    return "\n".join(parts)


def aligned(m: str, size: str) -> list[str]:
    """A macro that aligns an array, in every compiler's words; some take them in front only."""
    use = f"/* {m}_ALIGNED static unsigned char work[{size}]; */"
    words = (("defined(__GNUC__)", f"__attribute__((aligned({m}_ALIGN)))"),
             ("defined(_MSC_VER)", f"__declspec(align({m}_ALIGN))"),
             ("defined(__cplusplus)", f"alignas({m}_ALIGN)"))
    lines = [use]
    for k, (where, word) in enumerate(words):
        lines += [f"#{'el' if k else ''}if {where}", f"#define {m}_ALIGNED {word}"]
    return [*lines, "#else", f"#define {m}_ALIGNED _Alignas({m}_ALIGN)", "#endif"]


def _state_sizes(funcs: Mapping[str, Func], real: str, size: int) -> dict[str, tuple[int, str]]:
    """The macros of a net with states."""
    if "reset" not in funcs:
        return {}
    count = funcs["reset"].buffers[0].size
    return {"STATES": (count, f"{real}s of `state`, for each stream"),
            "STATE_BYTES": (count * size, "of `state`: to be saved and restored")}


def _more_sizes(funcs: Mapping[str, Func], name: str, size: int) -> dict[str, tuple[int, str]]:
    """The macros of `each`, gradients and training, where the module has their functions."""
    found = {}
    for title in DOCS:
        if title in funcs and title not in FORWARD:
            word = title.replace("_step", "").upper()
            found[f"{word}_WORK_BYTES"] = (
                work_size(funcs[title]) * size, f"of `work` for {name}_{title}"
                + (", whatever n is" if funcs[title].counted else ""))
    if "train_step" in funcs:
        buffers = {b.name: b.size for b in funcs["train_step"].buffers}
        found["TARGETS"] = (buffers["target"], "reals of a sample's target")
        found["STATE"] = (buffers["state"], "reals of `state`, all 0 to begin with")
    return found


def block(lines: Sequence[str]) -> str:
    """A comment."""
    return "\n".join(["/*", *[f" * {line}".rstrip() for line in lines], " */"])


def _about(g: Graph, module: Module, name: str, real: str, embedded: bool, target: str,
           target_note: str, soft: bool) -> list[str]:
    lines = [
        f"{name}: a net of {g.n_own} neurons and {g.n_edges} edges, compiled by ncc.",
        "",
        f"For {comment(target)}" + (f" ({comment(target_note)})." if target_note else "."),
        about_numerics(module, real),
        "",
        "The functions write to nothing but those of their arguments that are not const, keep no",
        "state and allocate nothing: many threads may run them at once, each with its own `work`.",
        "What `work` holds between calls does not matter. No array may overlap another.",
    ]
    if len(g.states):
        m = macro(name)
        lines += [
            "",
            "Some neurons read values of the last call, which are in `state`. Each stream of",
            f"samples has its own, {m}_STATE_BYTES bytes of the caller's: all 0 before the first",
            f"sample, which {name}_reset makes them. A copy of them is all there is to save.",
        ]
    lines += about_calls(module, real, target_note, soft)
    if embedded:
        lines += ["", "The weights are constants of the object."]
    lines += ["", "Inputs, x[k]:   " + _listed(g, g.inputs[: g.n_inputs]),
              *_labelled(g, g.inputs[: g.n_inputs], "x"),
              "Outputs, y[k]:  " + _listed(g, g.outputs), *_labelled(g, g.outputs, "y")]
    if len(g.states):
        lines += ["Read in the next call: " + _listed(g, g.states)]
    if g.n_params:
        where = "The canonical parameters (here constants of the object)" if embedded else (
            "The canonical parameters, `params`")
        lines += ["", f"{where}: by target neuron, in in-list order,",
                  "then the neuron's bias; a tied one stands where it is named first."]
        lines += [f"    {line}" for line in _parameters(g)]
    return lines


def about_numerics(module: Module, real: str) -> str:
    """What the values are, and how sums round."""
    return f"Values are {real}; numerics are {module.numerics}: " + {
        "strict": "every operation is rounded by itself.",
        "fused": "each edge is one fused multiply-add.",
        "fast": "sums may be reassociated."}[module.numerics]


def about_calls(module: Module, real: str, target_note: str, soft: bool) -> list[str]:
    """What the object calls, or C that is for no target."""
    if not target_note:
        return ["It calls nothing but what a compiler may call for arithmetic."]
    calls = soft_calls(module, target_note) if soft else ()
    if calls:
        return ["", f"This target has no {real} arithmetic: the object calls the compiler's",
                "runtime (libgcc or compiler-rt), which has to be linked, but no more of it than",
                *[f"    {c}" for c in calls]]
    if "windows" in target_note:
        probe = "__chkstk" if "msvc" in target_note else "___chkstk_ms"
        return ["", "The object calls nothing, except that functions whose frame is larger than",
                f"a page call {probe} of the compiler's runtime, as Windows wants them to."]
    return ["The object calls nothing."]


def _name(g: Graph, j: int) -> str:
    last = "~" if j >= g.n_own else ""  # the value of the last call
    if last:
        j = int(g.states[np.searchsorted(g.inputs[g.n_inputs :], j)])
    return f"{last}n{j:0{digits(g.n_own)}x}"


def _listed(g: Graph, neurons: Ints) -> str:
    names = [_name(g, j) for j in neurons[:12].tolist()]
    if len(neurons) > 12:
        names = [*names[:8], "...", _name(g, int(neurons[-1]))]
    return " ".join(names) if names else "none"


def _labelled(g: Graph, neurons: Ints, array: str) -> Iterator[str]:
    """Lines that say which elements of x or y labels name."""
    found = covering(g.labels, neurons, g.n_neurons)
    for at, label in found[:SMALL]:
        last = f"..{at + label.size - 1}" if label.size > 1 else ""
        yield f"    {array}[{at}{last}]: {comment(titled(label))}"
    if len(found) > SMALL:
        yield f"    and {len(found) - SMALL} more labels"


def _parameters(g: Graph) -> Iterator[str]:
    """Lines that say which slots belong to which neuron."""
    mine = np.flatnonzero(g.activations >= 0)
    if len(mine) <= SMALL and g.n_edges <= 16 * SMALL:
        for j in mine.tolist():
            at = slice(int(g.starts[j]), int(g.starts[j + 1]))
            codes, bias = g.weights[at], int(g.biases[j])
            words = []
            if len(codes):
                shown = _slots(codes.tolist())
                words.append(f"{shown} from {_listed(g, g.sources[at])}")
            if bias != NONE:
                words.append(f"bias {_slots([bias])}")
            yield f"{_name(g, j)}: " + ", ".join(words)
        return
    # Of a big net, runs of neighbours with as many slots each and no ties within them.
    counts = np.diff(g.starts)
    base = np.full(g.n_neurons, -1, np.int64)
    some = np.flatnonzero(counts)
    base[some] = g.weights[g.starts[some]]
    base = np.where(counts == 0, g.biases, base)
    expected = np.repeat(base - g.starts[:-1], counts) + np.arange(g.n_edges)
    wrong = np.bincount(csr.owners(g.starts)[expected != g.weights],
                        minlength=g.n_neurons)
    biased = g.biases != NONE
    good = (wrong == 0) & (base >= 0) & (~biased | (g.biases == base + counts))
    size = counts + biased
    a, b = mine[:-1], mine[1:]
    alike = (good[a] & good[b] & (counts[a] == counts[b]) & (biased[a] == biased[b])
             & (b == a + 1) & (base[b] == base[a] + size[a]))
    alike |= ~good[a] & ~good[b] & (b == a + 1)
    firsts = np.concatenate([[0], np.flatnonzero(~alike) + 1])
    lasts = np.concatenate([firsts[1:], [len(mine)]]) - 1
    for first, last in zip(mine[firsts[:LINES]].tolist(), mine[lasts[:LINES]].tolist(),
                           strict=True):
        names = _name(g, first) + (f"..{_name(g, last)}" if last > first else "")
        if not good[first]:
            yield f"{names}: ties or constants among them"
            continue
        per = f"{counts[first]} weights" + (", 1 bias" if biased[first] else "")
        yield f"{names}: {base[first]}..{base[last] + size[last] - 1}, {per} each"
    if len(firsts) > LINES:
        yield f"... and {len(firsts) - LINES} more runs of neurons"


def _slots(codes: list[int]) -> str:
    """Slots as ranges: `0..2, 7`; constants are counted."""
    ranges: list[list[int]] = []
    for code in codes:
        if code < 0:
            continue
        if ranges and ranges[-1][1] + 1 == code:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    words = [f"{a}" if a == b else f"{a}..{b}" for a, b in ranges]
    fixed = sum([1 for code in codes if code < 0])
    if fixed:
        words.append("constant" if fixed == len(codes) == 1 else f"{fixed} constant")
    return ", ".join(words)


# ---- machines without an FPU

# opcode: the calls it may become, by ARM's run-time ABI (RTABI 4.1, 4.2) and by libgcc; {0} is f or
# d, {1} sf or df. LLVM may swap the sides of a comparison, and asks for a NaN apart.
_LESS = (("__aeabi_{0}cmplt", "__lt{1}2"), ("__aeabi_{0}cmpgt", "__gt{1}2"))
_UP_TO = (("__aeabi_{0}cmple", "__le{1}2"), ("__aeabi_{0}cmpge", "__ge{1}2"))
_EQUAL = (("__aeabi_{0}cmpeq", "__eq{1}2"), ("__aeabi_{0}cmpeq", "__ne{1}2"))
_UNORDERED = (("__aeabi_{0}cmpun", "__unord{1}2"),)
_SOFT: dict[str, tuple[tuple[str, str], ...]] = {
    "add": (("__aeabi_{0}add", "__add{1}3"),),
    "sub": (("__aeabi_{0}sub", "__sub{1}3"),),
    "mul": (("__aeabi_{0}mul", "__mul{1}3"),),
    "accumulate": (("__aeabi_{0}add", "__add{1}3"), ("__aeabi_{0}mul", "__mul{1}3")),
    "accrue": (("__aeabi_{0}add", "__add{1}3"), ("__aeabi_{0}mul", "__mul{1}3")),
    "real": (("__aeabi_ui2{0}", "__floatunsi{1}"),),
    "div": (("__aeabi_{0}div", "__div{1}3"),),  # but for AVRs: ncc/passes/emit/divide.py
    "lt": _LESS + _UNORDERED,
    "gt": _LESS + _UNORDERED,
    "le": _UP_TO + _UNORDERED,
    "ge": _UP_TO + _UNORDERED,
    "eq": _EQUAL + _UNORDERED,
    "une": _EQUAL + _UNORDERED,
    "max": _LESS,
    "min": _LESS,
}
# Words of 64 bits, where the machine has 32.
_SOFT_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "wmul": (("__aeabi_lmul", "__muldi3"),),
    "wshl": (("__aeabi_llsl", "__ashldi3"),),
    "wshr": (("__aeabi_llsr", "__lshrdi3"),),
    "wsar": (("__aeabi_lasr", "__ashrdi3"),),
}


def soft_calls(module: Module, triple: str) -> tuple[str, ...]:
    """The runtime functions that the module's object may call on `triple`, where arithmetic is
    calls, in order of opcodes."""
    arm = triple.startswith(("thumb", "arm"))
    letter, mode = ("f", "sf") if module.dtype == "f32" else ("d", "df")
    table = _SOFT if module.dtype == "f32" else {**_SOFT, **_SOFT_WORDS}
    used = dict.fromkeys([op[0] for f in module.funcs for op in f.ops])
    if triple.startswith("avr"):
        table = {**table, "div": (), "wmul": (("", "__mulsi3"),)}
    names = [(eabi if arm else libgcc).format(letter, mode) for opcode in (*OPCODES, *CONTROL)
             if opcode in used for eabi, libgcc in table.get(opcode, ())]
    return tuple(dict.fromkeys(names))

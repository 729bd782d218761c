"""The C text and the header: compiled by the C compiler, they do what the interpreter does."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
from gradients import interpreted
from nets import random_layers, some_net, to_nal
from objects import same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.net_module import interpret
from ncc.driver.pipeline import steps
from ncc.driver.settings import options
from ncc.ir.ssa import Buffer, Func, Module, Table, layout
from ncc.ir.ssa_build import Builder
from ncc.machine import header as cheader
from ncc.machine.llvm import host, target
from ncc.passes.emit.c_texts import EXPRESSIONS, HELPERS
from ncc.passes.emit.to_c import to_c
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve
from ncc.scalar.opcodes import OPCODES

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
FMA = ["-mfma"] if host().triple.startswith("x86_64") and host().fma else []
ISO = ["-std=c99", "-O2", *FMA, *WARNINGS]
# What gcc contracts and vectorises where nobody holds it back.
GNU = ["-std=gnu11", "-O3", "-march=native", *WARNINGS]
REALS = {"f32": np.float32, "f64": np.float64}


def cc(*arguments, compiler="gcc"):
    done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def library(folder, text, flags=ISO, compiler="gcc"):
    source, made = folder / "net.c", folder / "net.so"
    source.write_text(text)
    # Linked apart: some flags link start-up code in that makes the process flush subnormal numbers.
    cc(*flags, "-fPIC", "-c", "-o", folder / "net.o", source, compiler=compiler)
    cc("-shared", "-o", made, folder / "net.o", "-lm", compiler=compiler)
    return ctypes.CDLL(str(made))


def built(net, name="net", **more):
    graph = ncc.parse(net).graph if isinstance(net, str) else net
    aim = more.pop("aim", host())
    along = [s for s in steps() if s.call not in (resolve, order)]
    return Build(graph, aim, options(aim, name=name, **more), along=along,
                 embedded=more.get("embedded", False))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)  # which keeps the array alive


class Guarded:
    """`size` bytes at a multiple of 64 with a fence behind them that must not be touched."""

    def __init__(self, size, dtype=np.uint8):
        raw = np.full(size + 192, 0xFF, np.uint8)
        first = -raw.ctypes.data % 64
        self.fence = raw[first + size :]
        self.bytes = raw[first : first + size]
        self.array = self.bytes.view(dtype)

    def intact(self):
        return bool((self.fence == 0xFF).all())


def macros(text, name="NET"):
    return {k: int(v) for k, v in re.findall(rf"#define {name}_(\w+) +(\d+)", text)}


def evaluate(lib, header, x, params, name="net"):
    """y of the C functions, a sample at a time and as a batch, within exactly the stated bytes."""
    m = macros(header, cheader.macro(name))
    real = x.dtype
    packed = Guarded(m["PACKED"] * real.itemsize, real)
    takes = "_pack(" in header
    if takes:
        getattr(lib, f"{name}_pack")(pointer(params.astype(real)), pointer(packed.array))
        assert packed.intact()
    weights = [pointer(packed.array)] if takes else []
    one = np.zeros((len(x), m["OUTPUTS"]), real)
    work = Guarded(m["WORK_BYTES"])
    for row, y in zip(x, one, strict=True):
        getattr(lib, f"{name}_forward")(pointer(row), *weights, pointer(y),
                                        pointer(work.array) if m["WORK_BYTES"] else None)
    y = np.zeros_like(one)
    more = Guarded(m["BATCH_WORK_BYTES"])
    getattr(lib, f"{name}_forward_batch")(ctypes.c_size_t(len(x)), pointer(x), *weights,
                                          pointer(y), pointer(more.array))
    assert work.intact() and more.intact() and packed.intact()
    return one, y


def agree(folder, build, x, flags=ISO, compiler="gcc"):
    header = build.header()
    lib = library(folder, to_c(build.module, header), flags, compiler)
    values = build.graph.values
    x = x.astype(REALS[build.options["dtype"]])
    one, many = evaluate(lib, header, x, values)
    y = interpret(build.module, x, values)
    same(one, y)
    same(many, y)


def rows(net, count=5, seed=0):
    width = len(ncc.parse(net).inputs) if isinstance(net, str) else len(net.inputs)
    return np.random.default_rng(seed).uniform(-2, 2, (count, width))


# ---- the C text


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.each_choice
def test_c_gives_the_bits_of_the_interpreter(tmp_path, seed, dtype, numerics, form):
    net = to_nal(some_net(seed, max_neurons=24))
    build = built(net, dtype=dtype, numerics=numerics, form=form, batch_form=form)
    agree(tmp_path, build, rows(net))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_activation_in_c(tmp_path, dtype):
    lines = ["N 40", "00"] + [f"{k + 1:02x} {k:02x} 00:1" for k in range(0x20)]
    lines += [f"{k:02x} 00 00:1" for k in range(0x21, 0x40)]
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 3e-5, -88.0, 89.0, 1e30, -1e30, np.inf, -np.inf, np.nan]
    x = np.concatenate([special, np.linspace(-9, 9, 40)]).reshape(-1, 1)
    agree(tmp_path, built("\n".join(lines) + "\n", dtype=dtype), x)


# Each compiler where nobody holds it back: what it contracts and vectorises, and what of clang's
# it does not let a file see.
FREE = {
    "gcc": GNU,
    "gcc contract": [*GNU, "-ffp-contract=fast"],
    "g++": ["-x", "c++", "-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", *WARNINGS],
    "clang contract": ["-std=c99", "-O3", "-march=native", "-ffp-contract=fast", *WARNINGS],
    "clang unsafe": ["-O3", "-march=native", "-funsafe-math-optimizations", *WARNINGS],
    "clang associative": ["-O2", "-march=native", "-fassociative-math", "-fno-signed-zeros",
                          "-freciprocal-math", "-fno-trapping-math", *WARNINGS],
    "clang++": ["-x", "c++", "-std=c++17", "-O3", "-march=native", "-ffp-contract=fast",
                *WARNINGS],
}


@pytest.mark.parametrize("dtype, numerics, form", [
    ("f32", "strict", "straight"), ("f32", "fused", "table"), ("f64", "strict", "shared"),
    ("f64", "fused", "straight"),
])
@pytest.mark.parametrize("how", FREE)
@pytest.mark.each_choice
def test_a_compiler_that_contracts_changes_nothing(tmp_path, how, dtype, numerics, form):
    compiler = how.split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    net = random_layers([12, 12, 12], 6, seed=1, activation="gelu")
    build = built(net, dtype=dtype, numerics=numerics, form=form, batch_form=form)
    agree(tmp_path, build, rows(net, 37), FREE[how], compiler)


# clang names two of the flags only; of the others it takes the effect back.
FLAGS = [
    (["-ffast-math"], "f32", "-ffast-math"), (["-Ofast"], "f64", "-ffast-math"),
    (["-ffinite-math-only"], "f32", "-ffinite-math-only"),
    (["-funsafe-math-optimizations"], "f32", "-fassociative-math"),
    (["-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"], "f64",
     "-fassociative-math"),
    (["-freciprocal-math"], "f32", "-freciprocal-math"),
    (["-fno-signed-zeros"], "f32", "-fno-signed-zeros"),
    (["-mfpmath=387"], "f32", "FLT_EVAL_METHOD"), (["-mfpmath=387"], "f64", "FLT_EVAL_METHOD"),
    (["-mfpmath=both"], "f32", "FLT_EVAL_METHOD"),
    (["-fsingle-precision-constant"], "f64", "double_literals_are_double"),
]


@pytest.mark.parametrize("compiler, flags, dtype, word", [
    (compiler, *row) for row in FLAGS for compiler in ("gcc", "clang", "g++")
    if compiler != "clang" or row[2] in ("-ffast-math", "-ffinite-math-only")])
def test_a_flag_that_changes_results_is_an_error(tmp_path, flags, dtype, word, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    if "-mfpmath" in flags[0] and not FMA:
        pytest.skip("needs an x86-64-v3 machine")
    source = tmp_path / ("net.cc" if compiler == "g++" else "net.c")
    source.write_text(to_c(built("N 2\n00\n01 00 00:1\n", dtype=dtype).module))
    command = [compiler, "-c", "-o", tmp_path / "net.o", source]
    assert subprocess.run(command, capture_output=True).returncode == 0
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert done.returncode != 0 and word in done.stderr
    source.write_text(to_c(built("N 2\n00\n01 00 00:1\n", dtype=dtype, numerics="fast").module))
    assert subprocess.run([*command, *flags], capture_output=True).returncode == 0


NAMES = ("net", "Net", "NET", "nEt")


@pytest.mark.parametrize("compiler, standard", [
    ("gcc", "c99"), pytest.param("g++", "c++17", marks=pytest.mark.slow),
    pytest.param("clang", "c11", marks=pytest.mark.slow), ("clang++", "c++17")])
def test_files_of_any_names_stand_in_one_unit(tmp_path, compiler, standard):
    """Names that differ in case alone, both dtypes; what the first says ends with it."""
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    net = random_layers([9, 9, 9], 5, seed=1, activation="gelu")
    made = [built(net, name=name, dtype=("f32", "f64")[k % 2], numerics="strict",
                  form=("straight", "table")[k // 2], batch_form=("table", "straight")[k // 2])
            for k, name in enumerate(NAMES)]
    text = "".join(to_c(build.module, build.header()) for build in made)
    mixed = "float a_sum(float a, float b, float c);\n" \
        "float a_sum(float a, float b, float c) { return a * b + c; }\n"
    if compiler in ("g++", "clang++"):
        text += 'extern "C" ' + mixed.replace("\n", '\nextern "C" ', 1)
    else:
        text += mixed
    source, library_ = tmp_path / "all.c", tmp_path / "all.so"
    source.write_text(text)
    language = ["-x", "c++"] if "++" in compiler else []
    cc(*language, f"-std={standard}", "-O2", *FMA, *WARNINGS, "-fPIC", "-shared", "-o", library_,
       source, "-lm", compiler=compiler)
    lib = ctypes.CDLL(str(library_))
    macros_of = {}
    for build, name in zip(made, NAMES, strict=True):
        m = cheader.macro(name)
        macros_of.setdefault(m, name)
        x = rows(net).astype(REALS[build.options["dtype"]])
        header = build.header()
        one, many = evaluate(lib, header, x, build.graph.values, name)
        y = interpret(build.module, x, build.graph.values)
        same(one, y)
        same(many, y)
    assert len(macros_of) == len(NAMES)


def test_headers_of_names_that_differ_in_case_share_no_macro():
    seen = set()
    for name in NAMES:
        text = built("N 2\n00\n01 00 00:1\n", name=name).header()
        found = set(re.findall(r"#define (\w+)", text))
        assert not found & seen
        assert all(f.startswith(cheader.macro(name) + "_") for f in found)
        seen |= found


def test_helpers_give_way_to_a_texts_own_names(tmp_path):
    funcs = []
    for name in ("to_bits", "from_bits_", "from_bits"):
        b = Builder("f32", False)
        b.store(b.op("abs", b.load("x", 0)), "y", 0)
        funcs.append(Func(name, (Buffer("x", "in", 1), Buffer("y", "out", 1)), b.ops))
    module = Module("t", "f32", "strict", tuple(funcs))
    lib = library(tmp_path, to_c(module))
    y = np.zeros(1, np.float32)
    lib.t_from_bits(pointer(np.full(1, -2, np.float32)), pointer(y))
    assert y[0] == 2


def test_every_name_of_the_file_has_the_nets_before_it(tmp_path):
    build = built(random_layers([9, 9, 9], 5, seed=1, activation="gelu"), name="own", form="table")
    text = to_c(build.module, build.header())
    (tmp_path / "net.c").write_text(text)
    cc("-std=c99", "-O0", "-g", *FMA, "-c", "-o", tmp_path / "net.o", tmp_path / "net.c")
    names = [line.split()[-1] for line in cc("-a", tmp_path / "net.o", compiler="nm").splitlines()
             if line.split()[-2] in "tTrRdDbB" and not line.split()[-1].startswith(".")]
    assert names and all(name.startswith("own_") for name in names)
    kept = re.findall(r"#define (\w+)", text)
    assert all(name.startswith("OWN_") or name in ("own_RESTRICT", "own_FLASH")
               for name in kept)


def test_split_code_has_static_pieces(tmp_path):
    net = random_layers([40, 40, 40], 20, seed=2)
    build = built(net, form="straight", batch_form="table", piece=500, assembles=False)
    assert sum(not f.exported for f in build.module.funcs) > 3
    agree(tmp_path, build, rows(net))
    shown = cc("-D", "--defined-only", tmp_path / "net.so", compiler="nm")
    names = [line.split()[-1] for line in shown.splitlines()]
    assert sorted(names) == ["net_forward", "net_forward_batch", "net_pack"]


def test_no_symbol_is_undefined_and_nothing_is_writable(tmp_path):
    net = random_layers([12, 12, 12], 6, seed=1, activation="gelu")
    (tmp_path / "net.c").write_text(to_c(built(net).module))
    cc("-std=c99", "-O2", *FMA, "-c", "-o", tmp_path / "net.o", tmp_path / "net.c")
    kinds = [line.split()[-2] for line in cc(tmp_path / "net.o", compiler="nm").splitlines()]
    assert set(kinds) <= ({"T", "t", "r"} if FMA else {"T", "t", "r", "U"})


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
def test_embedded_weights_leave_the_signatures(tmp_path, form):
    net = to_nal(some_net(5))
    graph = ncc.parse(net).graph
    build = built(graph, form=form, batch_form=form, params=graph.values,
                  embedded=True)
    assert "packed" not in re.sub(r"/\*.*?\*/", "", build.header(), flags=re.S)
    agree(tmp_path, build, rows(net))


def test_nets_at_the_edges(tmp_path):
    for k, net in enumerate((
        "N 1\n00 00 +=1.5\n",  # no input at all
        "N 3\n00\n01\n02 03 00:=1\n",  # no parameter, an input unread
        "N 2\nout 01,00\n00\n01 relu 00:2\n",  # an input as an output
    )):
        folder = tmp_path / str(k)
        folder.mkdir()
        agree(folder, built(net), rows(net))


# ---- opcodes and loops, one by one

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1.5, -2.75, 1e-40, 3e38, -3e38, 1 + 2.0**-23, np.inf, -np.inf,
           np.nan]


def test_every_opcode_has_an_expression():
    plain = [o.name for o in OPCODES.values() if not o.math or o.name == "sqrt"]
    assert sorted(EXPRESSIONS) == sorted(plain)


def test_an_op_that_expand_left_is_refused():
    ops = [("load", (), ("x", 0)), ("tanh", (0,), None), ("store", (1,), ("y", 0))]
    func = Func("f", (Buffer("x", "in", 1), Buffer("y", "out", 1)), ops)
    with pytest.raises(KeyError, match="tanh"):
        to_c(Module("t", "f32", "fused", (func,)))


def one_op(opcode, dtype):
    """y of the op over x, whatever its types: words are the reals' bits, shifts below the width."""
    b = Builder(dtype, True)
    row = OPCODES[opcode]
    values = []
    for k, letter in enumerate(row.reads):
        v = b.load("x", k)
        if letter == "w":
            v = b.op("bits", v)
            if opcode in ("wshl", "wshr", "wsar") and k == 1:
                v = b.op("wand", b.op("wshr", v, b.word(20)), b.word(31))
        elif letter == "b":
            v = b.op("gt", v, b.const(0.5))
        values.append(v)
    out = b.op(opcode, *values)
    if row.result == "w":
        out = b.op("unbits", out)
    elif row.result == "b":
        out = b.op("select", out, b.const(1.0), b.const(-0.0))
    b.store(out, "y", 0)
    buffers = (Buffer("x", "in", 3), Buffer("y", "out", 1))
    return Func(opcode, buffers, b.ops)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_opcode_on_special_values(tmp_path, dtype):
    names = [name for name in EXPRESSIONS
             if "i" not in OPCODES[name].reads + OPCODES[name].result]
    module = Module("t", dtype, "fused", tuple(one_op(name, dtype) for name in names))
    module.verify()
    text = to_c(module)
    assert all(name in text for name in HELPERS if name != "divide" or dtype == "f32")
    lib = library(tmp_path, text)
    grid = np.array(np.meshgrid(SPECIAL, SPECIAL, SPECIAL)).reshape(3, -1).astype(REALS[dtype])
    columns = np.ascontiguousarray(grid.T)
    for name in names:
        expected = np.zeros((1, grid.shape[1]), grid.dtype)
        module.run(name, {"x": grid, "y": expected})
        got = np.zeros_like(expected)
        function = getattr(lib, f"t_{name}")
        for k in range(grid.shape[1]):
            function(pointer(columns[k]), pointer(got[0, k:]))
        same(got, expected)


def compare(folder, module, x, outputs, more=()):
    module.verify()
    lib = library(folder, to_c(module))
    y = np.zeros(outputs, np.float32)
    expected = np.zeros(outputs, np.float32)
    module.run("f", {"x": x, "y": expected})
    lib.t_f(pointer(x), pointer(y), *more)
    same(y, expected)
    return y


def test_carries_move_all_at_once(tmp_path):
    # (a, b, c) -> (b, c, a + b), seven times; an index walks on, and one carry that nothing reads
    b = Builder("f32", False)
    lo, hi = b.index(0), b.index(7)
    first = [b.load("x", k) for k in range(3)]
    _, p, q, r, walk, _ = b.loop(lo, hi, (*first, b.index(2), b.const(5.0)))
    old = b.load("x", -1, walk)
    b.store(old, "y", 5)
    on = b.op("iadd", walk, b.index(1))
    p2, q2, r2, _, _ = b.close(q, r, b.op("add", p, q), on, b.load("x", 0, walk))
    for k, v in enumerate((p2, q2, r2)):
        b.store(v, "y", k)
    buffers = (Buffer("x", "in", 12), Buffer("y", "out", 6))
    module = Module("t", "f32", "strict", (Func("f", buffers, b.ops),))
    x = np.arange(1, 13, dtype=np.float32)
    assert compare(tmp_path, module, x, 6)[5] == 8


def test_a_loop_may_run_no_time_at_all_and_loops_nest(tmp_path):
    b = Builder("f32", False)
    zero, three = b.index(0), b.index(3)
    x0 = b.load("x", 0)
    _, total = b.loop(zero, three, (x0,))
    inner, acc = b.loop(b.index(1), three, (total,))
    sum_, = b.close(b.op("add", acc, b.load("x", 1, inner)))
    sum_, = b.close(sum_)
    b.store(sum_, "y", 0)
    b.loop(three, three, (x0,))
    none, = b.close(b.const(9.0))
    b.store(none, "y", 1)
    module = Module("t", "f32", "strict",
                    (Func("f", (Buffer("x", "in", 4), Buffer("y", "out", 2)), b.ops),))
    y = compare(tmp_path, module, np.array([1, 2, 4, 8], np.float32), 2)
    assert y.tolist() == [1 + 3 * (4 + 8), 1]


def test_names_of_a_text_cannot_break_the_c(tmp_path):
    b = Builder("f32", False)
    b.store(b.op("add", b.load("int", 0), b.load("for", 1)), "v0", 0)
    buffers = (Buffer("int", "in", 1), Buffer("v0", "out", 1))
    tables = (Table("for", "f", np.array([1, np.inf, -0.0, 1 / 3], np.float32)),
              Table("unread", "i", np.array([1], np.int32)))
    module = Module("t", "f32", "strict", (Func("f", buffers, b.ops),), tables)
    module.verify()
    lib = library(tmp_path, to_c(module))
    y = np.zeros(1, np.float32)
    lib.t_f(pointer(np.ones(1, np.float32)), pointer(y))
    assert y[0] == np.inf


# ---- the header


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("compiler, standard", [("gcc", "c99"), ("g++", "c++17")])
def test_the_header_stands_alone(tmp_path, compiler, standard, dtype):
    text = built(to_nal(some_net(7)), dtype=dtype).header()
    (tmp_path / "net.h").write_text(text)
    # Twice, and nothing but it: what it needs it includes itself.
    source = tmp_path / ("use.c" if compiler == "gcc" else "use.cpp")
    source.write_text('#include "net.h"\n#include "net.h"\nint use(void);\n'
                      "int use(void) { return NET_INPUTS + NET_ALIGN; }\n")
    cc(f"-std={standard}", *WARNINGS, "-Wcomment", "-Wtrigraphs", "-c", "-o", tmp_path / "use.o",
       source, compiler=compiler)


def test_the_macros_are_those_of_the_contract():
    build = built("N 6\n00\n01\n02 00 00,01\n03 00 02\n04 00 03 +\n05 00 02,03\n", form="table")
    text = build.header()
    expected = ["INPUTS", "OUTPUTS", "PARAMS", "PACKED", "WORK_BYTES", "BATCH_WORK_BYTES", "ALIGN",
                "STACK_BYTES", "ABI_VERSION", "HASH", "TARGET"]
    found = re.findall(r"#define (\w+)", text)
    assert found == ["NET_NCC_H"] + [f"NET_{m}" for m in expected] + ["NET_ALIGNED"] * 4
    m = macros(text)
    assert (m["INPUTS"], m["OUTPUTS"], m["PARAMS"]) == (2, 2, 7)
    assert (m["ALIGN"], m["ABI_VERSION"]) == (build.target.vector_bits // 8, 1)
    assert m["PACKED"] >= m["PARAMS"]
    assert m["WORK_BYTES"] == 4 * build.plan.single.work > 0
    assert f'#define NET_HASH             "{cheader.graph_hash(build.graph)}"' in text
    assert f'#define NET_TARGET           "{build.target.name}"' in text


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_two_nets_in_one_program(tmp_path, language):
    program = r"""
#include <stdio.h>
#include "one.h"
#include "two.h"
static float packed_one[ONE_PACKED];
static double packed_two[TWO_PACKED];
int main(void)
{
    const float x[ONE_INPUTS] = {1.0f, 2.0f}, params[ONE_PARAMS] = {3.0f, 4.0f};
    const double u[2 * TWO_INPUTS] = {5.0, 6.0}, weights[TWO_PARAMS] = {0.5};
    float y[ONE_OUTPUTS];
    double v[2 * TWO_OUTPUTS];
    one_pack(params, packed_one);
    two_pack(weights, packed_two);
    one_forward(x, packed_one, y, NULL);
    two_forward_batch(2, u, packed_two, v, NULL);
    printf("%g %g %g\n", (double)y[0], v[0], v[1]);
    return ONE_WORK_BYTES + TWO_BATCH_WORK_BYTES;
}
"""
    objects = []
    for name, net, dtype in (("one", "N 3\n00\n01\n02 00 00,01\n", "f32"),
                             ("two", "N 2\n00\n01 00 00\n", "f64")):
        build = built(net, name=name, dtype=dtype)
        (tmp_path / f"{name}.h").write_text(build.header())
        (tmp_path / f"{name}.c").write_text(to_c(build.module, build.header()))
        cc(*ISO, "-c", "-o", tmp_path / f"{name}_c.o", tmp_path / f"{name}.c")
        (tmp_path / f"{name}.o").write_bytes(build.object())
        objects.append(tmp_path / name)
    source = tmp_path / f"main.{language}"
    source.write_text(program)
    compiler, standard = ("gcc", "c99") if language == "c" else ("g++", "c++17")
    for ending in (".o", "_c.o"):
        cc(f"-std={standard}", *WARNINGS, "-o", tmp_path / "main", source,
           *[f"{o}{ending}" for o in objects], "-lm", compiler=compiler)
        done = subprocess.run([tmp_path / "main"], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "11 2.5 3\n")


def test_nothing_breaks_out_of_a_comment_or_a_string(tmp_path):
    evil = 'a*/ int b; /* ??/ \\ " \n#define X \x00 é %s ??'
    build = built("N 2\n00\n01 00 00\n")
    text = cheader.header(build.plan, build.module, name="net", dtype="f32", embedded=False,
                          target=evil, target_note=evil, hash=evil, align=16)
    assert text.isascii() and "\x00" not in text
    (tmp_path / "net.h").write_text(text)
    (tmp_path / "main.c").write_text('#include <stdio.h>\n#include "net.h"\n'
                                     "int main(void) { puts(NET_TARGET); return 0; }\n")
    cc("-std=c99", *WARNINGS, "-o", tmp_path / "main", tmp_path / "main.c")
    shown = subprocess.run([tmp_path / "main"], capture_output=True, text=True).stdout
    assert shown == 'a*/ int b; /* ??/ \\ " ?#define X ? ? %s ??\n'


def test_parameters_are_listed_by_neuron():
    text = built("N 6\n00\n01\n02 00 00,01 +\n03 00 00@k,01:=2 +@k\n04 00 02@k,03\n"
                 "05 00 04:=1 +=3\n").header()
    assert re.findall(r"\*     (n\w\w: .*)", text) == [
        "n02: 0..1 from n00 n01, bias 2",
        "n03: 3, 1 constant from n00 n01, bias 3",
        "n04: 3..4 from n02 n03",
        "n05: constant from n04, bias constant",
    ]


def test_parameters_of_a_big_net_are_summarised():
    text = built(random_layers([100, 100, 100], 10, seed=3), form="table").header()
    assert re.findall(r"\*     (n.*)", text) == ["n064..n12b: 0..2199, 10 weights, 1 bias each"]


# ---- names and the hash


@pytest.mark.parametrize("stem, name", [
    ("net", "net"), ("2-layers", "n2_layers"), ("a.b c", "a_b_c"), ("xor", "xor"),
    ("int", "int"), ("", "net"), ("é", "_"), ("²", "_"),
])
def test_a_stem_becomes_an_identifier(stem, name):
    assert cheader.c_identifier(stem) == name
    assert cheader.macro(name) == name.upper()


NET = "N 4\nfn 20 1/(1+x)\n00\n01\n02 20 00:0.5,01@k:2 +=1\n03 relu 02@k\n"


@pytest.mark.parametrize("text, format", [
    ("# a comment\nN 4\r\nfn 2a 1 / (1 + x)\nfn 2b x\n00\n01\n02 2a 00:5e-1 , 01@other:2 +=1.0\n"
     "03 3 02@other\n", "nal"),
    ("N 4\nfn 20 1/(1+x)\nact 02 20\nact 03 3\nbias 02 +=1\n00 02 0.5\n01 02 @k:2\n02 03 @k\n",
     "nel"),
])
def test_the_hash_is_blind_to_spelling(text, format):
    hash = cheader.graph_hash(ncc.parse(NET).graph)
    assert re.fullmatch("[0-9a-f]{64}", hash)
    assert cheader.graph_hash(ncc.parse(text, format).graph) == hash


@pytest.mark.parametrize("old, new", [
    ("0.5", "0.25"), ("00:0.5,01@k:2", "01@k:2,00:0.5"), ("+=1", "+=2"), ("+=1", "+1"),
    ("relu", "step"), ("1+x", "2+x"), ("02@k", "02:2"), ("relu 02", "relu max 02"),
    ("0.5", ""), ("00\n01", "out 02\n00\n01"), ("2 +=1", "2"), ("0.5", "=0.5"),
    ("02@k", "01@k"),
])
def test_the_hash_sees_the_net(old, new):
    changed = NET.replace(old, new, 1).replace("00:,", "00,")
    assert changed != NET
    assert cheader.graph_hash(ncc.parse(changed).graph) != cheader.graph_hash(ncc.parse(NET).graph)


# ---- machines without an FPU


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4f", "cortex-m33", "rv32imac", "rv64gc"])
def test_the_header_lists_the_calls_of_soft_arithmetic(tmp_path, name, dtype):
    codes = " ".join([f"{k + 1:02x} {k:02x} 00:1\n" for k in range(0x20)]).replace("\n ", "\n")
    build = built("N 21\n00\n" + codes, aim=target(name), dtype=dtype)
    (tmp_path / "net.o").write_bytes(build.object())
    shown = cc("-u", tmp_path / "net.o", compiler="nm")
    undefined = [line.split()[-1] for line in shown.splitlines() if line.strip()]
    listed = re.findall(r"\*     (__\w+)", build.header())
    assert set(undefined) <= set(listed)
    assert bool(listed) == bool(undefined)


# ---- the way back


@pytest.mark.parametrize("form", ["straight", "table"])
@pytest.mark.parametrize("dtype, numerics", [("f32", "fused"), ("f64", "strict")])
def test_backward_functions_in_c(tmp_path, dtype, numerics, form):
    """The bits of the graph's gradient, of one sample and of a batch."""
    build = built(to_nal(some_net(8, max_neurons=24)), dtype=dtype, numerics=numerics,
                  gradient=True, backward_form=form, scalar=True)
    lib = library(tmp_path, to_c(build.module))
    graph, real = build.plan.graph, REALS[dtype]
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (9, len(graph.inputs))).astype(real)
    dy = rng.standard_normal((9, len(graph.outputs))).astype(real)
    params = graph.values.astype(real)
    packed = np.zeros(build.module.func("pack").buffers[1].size, real)
    lib.net_pack(pointer(params), pointer(packed))

    def ask(name, x, dy, dx, dparams, *count):
        work = Guarded(layout(build.module.func(name))[1] * packed.itemsize, real)
        getattr(lib, f"net_{name}")(*count, pointer(x), pointer(packed), pointer(dy),
                                    None if dx is None else pointer(dx),
                                    None if dparams is None else pointer(dparams),
                                    pointer(work.array))
        assert work.intact()

    wanted = graph.gradient(x, dy, params, dtype, numerics)
    dx = np.full_like(x, np.nan)
    for k in range(9):
        ask("backward", x[k], dy[k], dx[k], None)
        one = np.zeros_like(params)
        ask("backward", x[k], dy[k], None, one)
        moved, sums = interpreted(build.module, x[k : k + 1], dy[k : k + 1], params, "backward")
        same(one, sums)
        same(dx[k : k + 1], moved)
    same(dx, wanted[0])
    again, sums = np.full_like(x, np.nan), np.ones_like(params)
    ask("backward_batch", x, dy, again, sums, ctypes.c_size_t(9))
    same(again, dx)
    same(sums, 1 + wanted[1])
    ask("backward_batch", x, dy, again, None, ctypes.c_size_t(9))
    same(again, dx)
    ask("backward_batch", x, dy, None, None, ctypes.c_size_t(0))

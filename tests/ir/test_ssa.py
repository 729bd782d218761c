"""The ssa level: its text, each rule of its verifier broken once, its interpreter, its prover."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modules import evaluate, modules

from ncc.errors import NccError, Source
from ncc.ir.equivalence import prove
from ncc.ir.ssa import Buffer, Func, Module, Op, Table
from ncc.ir.ssa_build import Builder
from ncc.ir.ssa_text import read
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.fold import fold
from ncc.passes.ssa.split import split

PASSES: dict[str, Callable[[Module], Module]] = {"fold": fold, "cse": cse, "dce": dce}


def parsed(text: str) -> Module:
    return read(Source("t.ssa", text))


def func(body: str, buffers: str = "x in 4, y out 4, work work 4", head: str = "func",
         tables: str = "") -> str:
    lines = "".join(f"  {line.strip()}\n" for line in body.strip().split("\n"))
    return f"module net f32 fused\n{tables}{head} f({buffers}) {{\n{lines}}}\n"


# ---- text

EVERYTHING = """module net f32 fused

table f f: 0.10000000149011612 inf -inf -0.0 1.401298464324817e-45 nan

table empty i: 

table w w: -2147483648 2147483647

internal part(x in 2, y out 1, work work 3) {
  %0 = load x[0]
  store %0, work[2]
}

func none() {
}

func single(x in 2, y out 1, work work 3) {
  call part
  %1 = load work[2]
  store %1, y[0]
}

func batch(count, x in 2, y out 1, acc inout 3, work private 3) {
  %0 = index 0
  %1 = count
  %2 = for %0..%1 lanes 32 {
    %3 = load x[%2 + -1]
    %4 = const -0.0
    %5 = word -1
    %6 = lookup w %5
    %7 = for %0..%1 {
      %8 = carry %4
      %9 = carry %6
      %10 = fma %8, %3, %4
    } yield %10, %9
    %12 = result 1
    %13 = result 0
    store %13, y[%2]
    store %4, work[2]
    %16 = mask %3
    accumulate %16, %4, acc[1]
    accumulate %16, %3, acc[%2 + -1]
    %19 = given acc
    %20 = real %19
  } yield
}
"""


def test_the_text_reads_back_to_the_object() -> None:
    module = parsed(EVERYTHING)
    assert str(module) == EVERYTHING
    assert parsed(str(module)) == module
    # An f32 table holds float32, an index is 32 bits, a word as wide as a real.
    assert [t.values.dtype.str[1:] for t in module.tables] == ["f4", "i4", "i4"]
    assert module.func("batch").ops[13] == ("result", (), 0)
    wide = parsed(EVERYTHING.replace("f32", "f64").replace("2147483647", "9223372036854775807"))
    assert [t.values.dtype.str[1:] for t in wide.tables] == ["f8", "i4", "i8"]


def test_comments_blank_lines_and_line_ends_are_free() -> None:
    loose = "// ---- after fold\n\n" + EVERYTHING.replace("\n", " // why\r\n\r\n").rstrip()
    assert parsed(loose) == parsed(EVERYTHING)


@given(modules())
def test_random_modules_read_back(module: Module) -> None:
    assert parsed(str(module)) == module
    assert str(parsed(str(module))) == str(module)


@given(st.floats(allow_nan=False), st.sampled_from(["f32", "f64"]))
def test_every_real_reads_back(value: float, dtype: str) -> None:
    b = Builder(dtype, True)
    with np.errstate(over="ignore"):
        b.const(value)
    module = Module("m", dtype, "fused", (Func("f", (), b.ops),))
    held = parsed(str(module)).funcs[0].ops[0][2]
    assert struct.pack("<d", held) == struct.pack("<d", b.ops[0][2])


def test_an_f32_text_rounds_its_reals() -> None:
    assert parsed(func("%0 = const 0.1")).funcs[0].ops[0][2] == float(np.float32(0.1))


FAULTS = [  # (old, new, line, column, what the message says)
    ("module net f32 fused", "", 3, 1, "line"),
    ("f32", "f16", 1, 12, "f16"),
    ("fused", "sloppy", 1, 1, "sloppy"),
    ("table f f", "table f q", 3, 9, "type"),
    ("inf -inf", "inf 1e39", 3, 36, "overflows"),
    ("inf -inf", "inf 1-2", 3, 36, "number"),
    ("w: -2147483648", "w: -2147483649", 7, 12, "32 bits"),
    ("w: -2147483648", "w: 1.5", 7, 12, "integer"),
    ("internal part(x in 2,", "internal part(x on 2,", 9, 17, "kind"),
    ("func none() {", "func none( {", 14, 1, "line"),
    ("func none() {", "func part() {", 9, 1, "twice"),
    ("batch(count, x in 2", "batch(x in 2, count", 23, 20, "count"),
    ("  %1 = load work[2]", "  %2 = load work[2]", 19, 3, "%1"),
    ("  %1 = load work[2]", "  %1 = load work[3]", 19, 3, "outside"),
    ("  %1 = load work[2]", "  %1 = load %0", 19, 3, "line"),
    ("  %1 = load work[2]", "  %1 = yield %0", 19, 3, "line"),
    ("  %1 = load work[2]", "  %1 = store %0", 19, 3, "line"),
    ("%10 = fma", "%10 = fmb", 34, 7, "fmb"),
    ("%10 = fma %8,", "%10 = fma", 34, 7, "fma"),
    ("    %13 = result 0", "    %13 = = result 0", 37, 5, "line"),
    ("    %20 = real %19\n  } yield\n}\n", "", 43, 5, "closed"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "says"), FAULTS)
def test_a_fault_of_the_text_has_its_place(old: str, new: str, line: int, column: int,
                                           says: str) -> None:
    assert old in EVERYTHING
    text = EVERYTHING.replace(old, new, 1)
    with pytest.raises(NccError) as caught:
        parsed(text + "}\n" if says == "closed" else text)
    error = caught.value
    assert (error.status, error.line, error.column) == (1, line, column), str(error)
    assert says in error.message


def test_a_text_that_ends_early_or_is_empty() -> None:
    for text in ("", "\n\n", EVERYTHING[:700], "module net f32 fused\nfunc f() {"):
        with pytest.raises(NccError) as caught:
            parsed(text)
        assert caught.value.status == 1
        assert caught.value.line is not None


# ---- the verifier's rules

X = "%0 = load x[0]\n"
RULES = [  # (what the message says, a text that breaks one rule)
    ("the name f is used twice", func("", tables="table f f: 1.0\n")),
    ("buffer's name is used twice", func("", "x in 1, x out 1")),
    ("buffer's name is used twice", func("", "t in 1", tables="table t f: 1.0\n")),
    ("bad buffer", func("", "x in -1")),
    ("unknown opcode", func(X + "%1 = half %0")),
    ("add reads ff, not f", func(X + "%1 = add %0")),
    ("add reads ff, not fff", func(X + "%1 = add %0, %0, %0")),
    ("add reads ff, not fi", func(X + "%1 = index 0\n%2 = add %0, %1")),
    ("wadd reads ww, not ff", func(X + "%1 = wadd %0, %0")),
    ("select reads b**, not bfw",
     func(X + "%1 = lt %0, %0\n%2 = word 0\n%3 = select %1, %0, %2")),
    ("%1 is not a value that %1 can read", func(X + "%1 = neg %1")),
    ("%2 is not a value that %1 can read", func(X + "%1 = neg %2\n%2 = neg %0")),
    ("%1 is not a value that %2 can read", func(X + "store %0, y[0]\n%2 = neg %1")),
    ("%2 is not a value that %4 can read",
     func("%0 = index 1\n%1 = for %0..%0 {\n%2 = load x[0]\n} yield\n%4 = neg %2")),
    ("a carry stands directly after its for", func(X + "%1 = carry %0")),
    ("a carry stands directly after its for",
     func("%0 = index 1\n%1 = for %0..%0 {\n%2 = load x[0]\n%3 = carry %0\n} yield %0")),
    ("a carry starts from a value above its loop",
     func("%0 = index 1\n%1 = for %0..%0 {\n%2 = carry %1\n} yield %2")),
    ("a lanes loop carries nothing",
     func("%0 = index 1\n%1 = for %0..%0 lanes 4 {\n%2 = carry %0\n} yield %2")),
    ("a yield without a loop", func("} yield")),
    ("a yield names the next value of every carry",
     func("%0 = index 1\n%1 = for %0..%0 {\n%2 = carry %0\n} yield")),
    ("a yield names the next value of every carry",
     func("%0 = index 1\n%1 = for %0..%0 {\n%2 = carry %0\n%3 = load x[0]\n} yield %3")),
    ("a result stands directly after its yield", func("%0 = result 0")),
    ("a result stands directly after its yield",
     func("%0 = index 1\n%1 = for %0..%0 {\n} yield\n%3 = result 0")),
    ("a result stands directly after its yield",
     func("%0 = index 1\n%1 = for %0..%0 {\n%2 = carry %0\n} yield %2\n%4 = index 1\n"
          "%5 = result 0")),
    ("for is ill-formed", func(X + "%1 = for %0..%0 {\n} yield")),
    ("a loop is not closed", func("%0 = index 1\n%1 = for %0..%0 {")),
    ("lanes loops do not nest",
     func("%0 = index 1\n%1 = for %0..%0 lanes 4 {\n%2 = for %0..%0 lanes 4 {\n} yield\n} yield")),
    ("no buffer or table z", func("%0 = load z[0]")),
    ("x[4] lies outside its 4 elements", func("%0 = load x[4]")),
    ("x[-1] lies outside its 4 elements", func("%0 = load x[-1]")),
    ("t[1] lies outside its 1 elements", func("%0 = load t[1]", tables="table t f: 1.0\n")),
    ("store of x, which is in", func(X + "store %0, x[0]")),
    ("store of t, which is table", func(X + "store %0, t[0]", tables="table t f: 1.0\n")),
    ("load of y, which is out", func("%0 = load y[0]")),
    ("load is ill-formed", func(X + "%1 = load x[%0]")),
    ("store is ill-formed", func("%0 = index 0\nstore %0, y[0]")),
    ("load of p, which is private", func("%0 = load p[0]", "p private 1")),
    ("store of p, which is private", func(X + "store %0, p[0]", "x in 1, p private 1")),
    ("accumulate of x, which is in", func(X + "accumulate %0, %0, x[0]")),
    ("accumulate of y, which is out", func(X + "accumulate %0, %0, y[0]")),
    ("accumulate of t, which is table",
     func(X + "accumulate %0, %0, t[0]", tables="table t f: 1.0\n")),
    ("accumulate of v, which is value",
     func("%0 = load v[0]\naccumulate %0, %0, v[0]", "v value 1")),
    ("accumulate of p, which is private",
     func("%0 = index 1\n%1 = for %0..%0 lanes 32 {\n%2 = const 1.0\naccumulate %2, %2, p[0]\n"
          "} yield", "p private 1")),
    ("work[4] lies outside its 4 elements", func(X + "accumulate %0, %0, work[4]")),
    ("accumulate is ill-formed", func("%0 = index 0\naccumulate %0, %0, work[0]")),
    ("accumulate is ill-formed", func(X + "accumulate %0, %0, work[%0]")),
    ("given is ill-formed", func("%0 = given z")),
    ("given is ill-formed", func("%0 = given t", tables="table t f: 1.0\n")),
    ("real reads i, not f", func(X + "%1 = real %0")),
    ("mask reads f, not i", func("%0 = index 0\n%1 = mask %0")),
    ("lookup is ill-formed", func("%0 = word 0\n%1 = lookup t %0", tables="table t i: 1\n")),
    ("lookup is ill-formed", func("%0 = index 0\n%1 = lookup t %0", tables="table t w: 1\n")),
    ("count is ill-formed", func("%0 = count")),
    ("a call of no internal function: g", func("call g")),
    ("a call of no internal function: f", func("call f")),
    ("g wants buffers that are not here",
     func("call g", "x in 1") + "internal g(y out 1) {\n}\n"),
    ("g wants buffers that are not here",
     func("call g", "x in 1") + "internal g(x in 2) {\n}\n"),
    ("b stands below the pure function that applies it",
     "module m f32 strict\npure a() {\n%0 = argument\n%1 = apply b %0\nreturn %1\n}\n"
     "pure b() {\n%0 = argument\nreturn %0\n}\n"),
    ("a stands below the pure function that applies it",
     "module m f32 strict\npure a() {\n%0 = argument\n%1 = apply a %0\nreturn %1\n}\n"),
    ("a called function calls nothing",
     func("call g", "x in 1") + "internal g(x in 1) {\n  call h\n}\ninternal h(x in 1) {\n}\n"),
]


@pytest.mark.parametrize(("says", "text"), RULES)
def test_a_broken_rule_is_caught(says: str, text: str) -> None:
    with pytest.raises(NccError) as caught:
        parsed(text)
    assert says in caught.value.message
    assert caught.value.status == 1
    assert caught.value.line is not None


def test_a_pass_that_breaks_a_rule_is_a_failed_verification() -> None:
    ops: list[Op] = [("load", (), ("x", 0)), ("neg", (1,), None)]
    module = Module("m", "f32", "fused", (Func("f", (Buffer("x", "in", 1),), ops),))
    with pytest.raises(NccError, match="%1 is not a value") as caught:
        module.verify()
    assert caught.value.status == 3
    assert "neg %1   <-- here" in caught.value.note
    for bad in (module.with_(dtype="f16"), module.with_(numerics="sloppy")):
        with pytest.raises(NccError, match="unknown dtype or numerics"):
            bad.verify()
    for op in (("const", (), 1), ("word", (), 1.0), ("index", (), None), ("load", (), None)):
        with pytest.raises(NccError, match="ill-formed"):
            module.with_(funcs=(Func("f", (Buffer("x", "in", 1),), [op]),)).verify()


# ---- the interpreter


def test_run_computes_a_straight_function_on_a_batch() -> None:
    module = parsed(func(X + "%1 = load x[1]\n%2 = fma %0, %1, %0\nstore %2, y[0]"))
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [0, 0, 0], [0, 0, 0]], np.float32)
    y = np.full((4, 3), 9, np.float32)
    module.run("f", {"x": x, "y": y})
    assert y.tolist() == [[5.0, 12.0, 21.0], [9.0] * 3, [9.0] * 3, [9.0] * 3]
    one = np.full(4, 9, np.float32)
    module.run("f", {"x": x[:, 1].copy(), "y": one})
    assert one.tolist() == [12.0, 9.0, 9.0, 9.0]


def test_run_carries_values_around_a_loop() -> None:
    """Fibonacci: two carries that change places, and both results, in any order."""
    text = func("%0 = const 0.0\n%1 = const 1.0\n%2 = index 0\n%3 = index @\n"
                "%4 = for %2..%3 {\n%5 = carry %0\n%6 = carry %1\n%7 = add %5, %6\n"
                "} yield %6, %7\n%9 = result 1\n%10 = result 0\nstore %9, y[1]\n"
                "store %10, y[0]", "y out 2")
    for n, expected in ((0, [0, 1]), (1, [1, 1]), (10, [55, 89])):
        y = np.zeros(2, np.float32)
        parsed(text.replace("@", str(n))).run("f", {"y": y})
        assert y.tolist() == expected


def test_run_nests_loops_and_reads_tables() -> None:
    module = parsed(func(
        "%0 = index 0\n%1 = index 2\n%2 = const 0.0\n%3 = for %0..%1 {\n"
        "%4 = load starts[%3]\n%5 = load starts[%3 + 1]\n%6 = for %4..%5 {\n%7 = carry %2\n"
        "%8 = load sources[%6]\n%9 = load x[%8]\n%10 = load w[%6]\n%11 = fma %9, %10, %7\n"
        "} yield %11\n%13 = result 0\nstore %13, y[%3]\n} yield",
        tables="table starts i: 0 1 3\ntable sources i: 2 0 1\ntable w f: 10.0 1.0 0.5\n"))
    y = np.zeros(4, np.float32)
    module.run("f", {"x": np.array([1, 2, 3, 4], np.float32), "y": y})
    assert y.tolist() == [30.0, 2.0, 0.0, 0.0]


def test_run_gives_each_lane_a_private_buffer() -> None:
    module = parsed(func(
        "%0 = index 0\n%1 = count\n%2 = index 2\n%3 = for %0..%1 lanes 8 {\n%4 = imul %3, %2\n"
        "%5 = load x[%4]\nstore %5, p[0]\n%7 = load x[%4 + 1]\nstore %7, p[1]\n%9 = load p[0]\n"
        "%10 = load p[1]\n%11 = sub %9, %10\nstore %11, y[%3]\n} yield",
        "count, x in 2, y out 1, p private 2"))
    y = np.zeros(3, np.float32)
    module.run("f", {"x": np.array([5, 1, 6, 4, 9, 9], np.float32), "y": y}, 3)
    assert y.tolist() == [4.0, 2.0, 0.0]
    module.run("f", {"x": np.zeros(0, np.float32), "y": y}, 0)  # no samples: nothing is written
    assert y.tolist() == [4.0, 2.0, 0.0]


def test_run_calls_and_looks_up() -> None:
    text = func("call g\n%1 = load work[0]\nstore %1, y[0]",
                tables="table t w: 1065353216 1073741824\n")
    module = parsed(text + "internal g(work work 4) {\n  %0 = word 1\n  %1 = lookup t %0\n"
                           "  %2 = unbits %1\n  store %2, work[0]\n}\n")
    y = np.zeros(4, np.float32)
    module.run("f", {"x": y.copy(), "y": y})
    assert y[0] == 2.0


def test_work_that_was_never_written_is_nan() -> None:
    y = np.zeros(4, np.float32)
    parsed(func("%0 = load work[0]\nstore %0, y[0]")).run("f", {"x": y.copy(), "y": y})
    assert np.isnan(y[0])


# ---- the passes on random modules, and the prover


def same(a: Module, b: Module) -> None:
    was, now = evaluate(a), evaluate(b)
    assert was.keys() == now.keys()
    for name, held in was.items():
        np.testing.assert_array_equal(held, now[name], name)


@given(modules(), st.sampled_from(list(PASSES)))
def test_a_pass_changes_no_bit_is_proved_and_is_idempotent(module: Module, name: str) -> None:
    module.verify()
    after = PASSES[name](module)
    after.verify()
    prove(module, after)
    same(module, after)
    assert str(PASSES[name](after)) == str(after)


@given(modules(), st.integers(3, 30))
def test_the_passes_together(module: Module, limit: int) -> None:
    after = split(dce(cse(fold(module))), piece=limit, whole=0)
    after.verify()
    prove(module, after)
    same(module, after)


@given(modules(loops=False), st.integers(2, 30))
def test_split_changes_no_bit_and_is_proved(module: Module, limit: int) -> None:
    after = split(module, piece=limit, whole=0)
    after.verify()
    prove(module, after)
    same(module, after)
    assert str(split(after, piece=limit, whole=0)) == str(after)


@given(modules(), st.data())
def test_what_the_prover_takes_is_the_same(module: Module, data: st.DataObject) -> None:
    """Most spoilt ops are refused; one that is not changes no bit."""
    first = module.funcs[0]
    spoilt = mutants(first.ops)
    for _ in range(5 if spoilt else 0):
        _, ops = spoilt[data.draw(st.integers(0, len(spoilt) - 1))]
        other = module.with_(funcs=(first.with_ops(ops), *module.funcs[1:]))
        try:
            other.verify()
            prove(module, other)
        except NccError:
            continue
        same(module, other)


# In both, every op matters to an output.
STRAIGHT = func("""%0 = load x[0]
    %1 = load x[1]
    %2 = sub %0, %1
    %3 = const 0.0
    %4 = add %2, %3
    %5 = div %4, %1
    %6 = const 0.10000000149011612
    %7 = fma %5, %6, %0
    store %7, work[1]
    store %5, work[2]
    %10 = load work[1]
    %11 = load work[2]
    %12 = sub %10, %11
    %13 = max %12, %7
    %14 = lt %13, %0
    %15 = select %14, %12, %1
    %16 = bits %15
    %17 = word 3
    %18 = wshl %16, %17
    %19 = unbits %18
    %20 = load acc[0]
    %21 = sub %20, %19
    store %21, acc[1]
    store %15, y[2]
    accumulate %13, %20, acc[0]""", "x in 4, y out 4, acc inout 2, work work 4")
LOOPS = func("""%0 = index 0
    %1 = index 2
    %2 = const 0.0
    %3 = for %0..%1 {
    %4 = load starts[%3]
    %5 = load starts[%3 + 1]
    %6 = for %4..%5 {
    %7 = carry %2
    %8 = load sources[%6]
    %9 = load x[%8]
    %10 = load w[%6]
    %11 = fma %9, %10, %7
    } yield %11
    %13 = result 0
    store %13, work[%3 + 1]
    } yield
    %16 = load work[1]
    %17 = load work[2]
    %18 = sub %16, %17
    store %18, y[1]""", tables="""table starts i: 0 1 3
table sources i: 2 0 1
table w f: 10.0 1.0 0.5
""")


def mutants(ops: list[Op], slots: int = 3) -> list[tuple[str, list[Op]]]:
    """Every way to spoil one op: what was done, and the ops."""
    out: list[tuple[str, list[Op]]] = []
    values = {"f": [k for k, op in enumerate(ops) if op[0] in ("load", "sub", "fma", "const")]}

    def change(at: int, what: str, op: Op) -> None:
        out.append((f"%{at} {what}", [*ops[:at], op, *ops[at + 1 :]]))

    for at, (opcode, reads, imm) in enumerate(ops):
        if opcode in ("sub", "div", "max", "lt", "wshl"):
            change(at, "swapped", (opcode, reads[::-1], imm))
        if opcode == "fma":
            change(at, "turned", (opcode, (reads[0], reads[2], reads[1]), imm))
            change(at, "unfused", ("mul", reads[:2], None))
        if opcode == "select":
            change(at, "swapped", (opcode, (reads[0], reads[2], reads[1]), imm))
        if opcode in ("add", "sub"):
            change(at, "another op", ("mul", reads, imm))
        if opcode == "const":
            bits = np.array([imm], np.float32).view(np.int32)
            change(at, "last bit", ("const", (), float((bits + 1).view(np.float32)[0])))
            change(at, "negated", ("const", (), -imm))
        if opcode in ("index", "word"):
            change(at, "another", (opcode, (), imm + 1))
        if opcode == "load":
            change(at, "redirected", (opcode, reads, (imm[0], (imm[1] + 1) % slots)))
        if opcode == "accumulate":
            change(at, "dropped", ("index", (), 0))
            change(at, "of another", (opcode, (reads[0], reads[0]), imm))
        if opcode in ("mask", "real"):
            change(at, "another op", ("neg" if opcode == "mask" else "imul", reads * (
                1 + (opcode == "real")), imm))
        if opcode in ("store", "accumulate"):
            change(at, "redirected", (opcode, reads, (imm[0], (imm[1] + 1) % slots)))
        if opcode == "store":
            change(at, "of another", (opcode, (values["f"][0], *reads[1:]), imm))
            change(at, "dropped", ("index", (), 0))  # keeps the numbers of the others
            if at + 1 < len(ops) and ops[at + 1][0] == "store":
                swapped = [*ops[:at], ops[at + 1], ops[at], *ops[at + 2 :]]
                if ops[at + 1][2] == imm:
                    out.append((f"%{at} after the next", swapped))
        if opcode == "for":
            change(at, "another start", (opcode, (reads[1], reads[1]), imm))
        if opcode == "yield" and reads:
            change(at, "another carry", (opcode, (reads[0] - 1,), imm))
    return out


@pytest.mark.parametrize("text", [STRAIGHT, LOOPS], ids=["straight", "loops"])
def test_the_prover_catches_every_mutant(text: str) -> None:
    module = parsed(text)
    first = module.funcs[0]
    kept = []
    spoilt = mutants(first.ops)
    for what, ops in spoilt:
        try:
            # fold, cse and dce find nothing to do that would bring the fault back.
            prove(module, module.with_(funcs=(first.with_ops(ops),)))
            kept.append(what)
        except NccError as error:
            assert error.status == 3
            assert "f: y[" in error.message or "f: acc[" in error.message, error.message
    assert kept == []
    assert len(spoilt) > 20


def test_the_prover_catches_every_shifted_slot_of_split() -> None:
    text = func("""%0 = load x[0]
        %1 = mul %0, %0
        store %1, work[0]
        %3 = sub %1, %0
        store %3, work[1]
        %5 = div %3, %1
        store %5, work[2]
        %7 = sub %5, %3
        %8 = add %7, %1
        store %8, y[0]""")
    module = parsed(text)
    after = split(module, piece=4, whole=0)
    prove(module, after)
    count = 0
    for k, piece in enumerate(after.funcs):
        for what, ops in mutants(piece.ops):
            if "load" in piece.ops[int(what[1:].split()[0])][0] or "stor" in what:
                spoilt = (*after.funcs[:k], piece.with_ops(ops), *after.funcs[k + 1 :])
                with pytest.raises(NccError, match="not proved: f: y"):
                    prove(module, after.with_(funcs=spoilt))
                count += 1
    assert count >= 5
    calls = after.funcs[-1]
    for ops in (calls.ops[:-1], calls.ops[::-1], calls.ops[1:]):
        with pytest.raises(NccError, match="not proved: f: y"):
            prove(module, after.with_(funcs=(*after.funcs[:-1], calls.with_ops(ops))))


def test_the_prover_reads_tables_by_content() -> None:
    module = parsed(LOOPS)
    renamed = parsed(LOOPS.replace("sources", "other"))
    prove(module, renamed)
    for old, new in (("2 0 1", "2 1 0"), ("10.0 1.0", "10.0 -1.0"), ("i: 0 1 3", "i: 0 2 3")):
        with pytest.raises(NccError, match="not proved"):
            prove(module, parsed(LOOPS.replace(old, new)))


@pytest.mark.parametrize(("one", "other"), [
    ("%1 = const 0.0\n%2 = mul %0, %1", "%1 = const 0.0\n%2 = add %1, %1"),
    ("%1 = const 0.0\n%2 = add %0, %1", "%1 = const 0.0\n%2 = sub %0, %1"),
    ("%1 = const 0.0\n%2 = sub %1, %0", "%1 = neg %0\n%2 = abs %1"),
    ("%1 = const 2.0\n%2 = mul %0, %1", "%1 = const 0.5\n%2 = mul %0, %1"),
    ("%1 = mul %0, %0\n%2 = add %1, %0", "%1 = const 1.0\n%2 = fma %0, %0, %0"),
    ("%1 = const 0.0\n%2 = max %0, %1", "%1 = const 0.0\n%2 = max %1, %0"),
    ("%1 = sub %0, %0\n%2 = abs %1", "%1 = const 0.0\n%2 = abs %1"),
    ("%1 = const 0.0\n%2 = div %1, %1", "%1 = const nan\n%2 = abs %1"),
])
def test_the_prover_does_not_take_unlike_for_like(one: str, other: str) -> None:
    a, b = (parsed(func(f"{X}{body}\nstore %2, y[0]")) for body in (one, other))
    with pytest.raises(NccError, match=r"f: y\[0\] is not the term it was") as caught:
        prove(a, b)
    assert caught.value.note.startswith("before: ")


def test_the_prover_wants_the_same_interface() -> None:
    module = parsed(STRAIGHT)
    first = module.funcs[0]
    wider = Func(first.name, (Buffer("x", "in", 5), *first.buffers[1:]), first.ops)
    for other in (module.with_(funcs=()), module.with_(dtype="f64"), module.with_(funcs=(wider,)),
                  module.with_(numerics="strict")):
        with pytest.raises(NccError, match="changed") as caught:
            prove(module, other)
        assert caught.value.status == 3


def test_a_load_between_stores_is_no_change() -> None:
    """Loads, even through an index that might be any cell, leave memory as it was."""
    loaded = func("%0 = load x[0]\n%1 = index 0\n%2 = index 3\n%3 = for %1..%2 {\n"
                  "store %0, acc[%3]\n%5 = load x[1]\n%6 = load acc[1]\nstore %5, acc[%3 + 1]\n"
                  "} yield", "x in 4, acc inout 4")
    module = parsed(loaded)
    assert "load acc[1]" not in str(dce(module))
    prove(module, dce(module))


def test_deep_and_long_modules_are_proved_in_linear_time() -> None:
    """100,000 ops in one chain: nothing recurses."""
    b = Builder("f32", True)
    value = b.load("x", 0)
    for k in range(25_000):
        weight = b.load("x", k % 4)
        value = b.op("sub", b.op("mul", value, weight), value)
        b.store(value, "work", k % 4)
    b.store(value, "y", 0)
    buffers = (Buffer("x", "in", 4), Buffer("y", "out", 4), Buffer("work", "work", 4))
    module = Module("m", "f32", "fused", (Func("f", buffers, b.ops),))
    after = split(dce(cse(fold(module))), piece=500)
    after.verify()
    assert len(after.funcs) > 100
    prove(module, after)
    ops = list(b.ops)
    ops[-2] = ("store", (ops[-2][1][0],), ("work", 0))
    spoilt = module.with_(funcs=(Func("f", buffers, [*ops[:3], ("neg", (0,), None), *ops[4:]]),))
    with pytest.raises(NccError, match=r"y\[0\]"):
        prove(module, spoilt)


def test_tables_compare_by_bits() -> None:
    zero, minus = np.array([0.0], np.float32), np.array([-0.0], np.float32)
    assert Table("t", "f", zero) == Table("t", "f", zero.copy())
    assert Table("t", "f", zero) != Table("t", "f", minus)

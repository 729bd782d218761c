"""Applies of several values at once, wherever they come to be written."""

import numpy as np
import pytest

import ncc
from ncc.cli import main

SSA = """module pair f32 strict

pure exp() {
  %0 = argument
  %1 = mul %0, %0
  return %1
}

func pack(params in 0, packed out 0) {
}

func forward(x in 2, packed in 0, y out 2, work work 0) {
  %0 = load x[0]
  %1 = load x[1]
  %2 = apply exp %0, %1
  %3 = result 1
  store %3, y[0]
  store %2, y[1]
}

func forward_batch(count, x in 2, packed in 0, y out 2, work private 0) {
  %0 = index 0
  %1 = count
  %2 = for %0..%1 lanes 16 {
    %3 = index 2
    %4 = imul %2, %3
    %5 = load x[%4]
    %6 = load x[%4 + 1]
    %7 = apply exp %5, %6
    %8 = result 1
    store %8, y[%4]
    store %7, y[%4 + 1]
  } yield
}
"""


@pytest.mark.parametrize("target", ["native", "x86-64", "aarch64", "cortex-m4", "wasm32"])
def test_an_ssa_text_may_apply_several_anywhere(tmp_path, target, capsys):
    path = tmp_path / "pair.ssa"
    path.write_text(SSA)
    assert main(["build", str(path), "--target", target, "--emit", "llvm,obj", "-o",
                 str(tmp_path) + "/"]) == 0
    calls = (tmp_path / "pair.ll").read_text()
    assert calls.count("call fastcc") >= 4


@pytest.mark.parametrize("target", ["native", "x86-64", "aarch64", "cortex-m4", "wasm32"])
def test_a_pure_function_may_apply_another(tmp_path, target):
    path = tmp_path / "pair.ssa"
    (tmp_path / "out").mkdir()
    outer = "pure twice() {\n  %0 = argument\n  %1 = apply exp %0\n  %2 = apply exp %1\n" \
        "  return %2\n}\n\nfunc pack"
    text = SSA.replace("func pack", outer, 1).replace("apply exp %0, %1", "apply twice %0, %1")
    path.write_text(text.replace("apply exp %5, %6", "apply twice %5, %6"))
    assert main(["build", str(path), "--target", target, "--emit", "ssa,obj,c", "-o",
                 str(tmp_path / "out") + "/", "--verify-each"]) == 0
    assert (tmp_path / "out" / "pair.ssa").read_text().count("pure ") == 2
    if target == "native":
        out = tmp_path / "y.csv"
        rows = tmp_path / "x.csv"
        rows.write_text("2,3\n1,4\n")
        assert main(["run", str(path), "--input", str(rows), "-o", str(out)]) == 0
        assert np.loadtxt(out, delimiter=",").tolist() == [[81.0, 16.0], [256.0, 1.0]]


# Passes behind `expand` may make short what was long enough for ncc's own assembly: an evolved XOR
# net did not compile.
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
def test_straight_functions_of_any_length_are_written(dtype, numerics):
    x = np.random.default_rng(1).normal(size=(5, 2))
    for more in range(4):
        lines = ["00", "01", "02 00 00:-0.5,01:0.75", "03 20 02:=1 +-0.25",
                 "04 00 01:-4.5,00:2.25", "05 20 04:=1 +-0.5", "06 00 03:2,05:5.5",
                 "07 20 06:=1 +-1"]
        lines += [f"{8 + k:02x} relu {7 + k:02x}:0.5 +1" for k in range(more)]
        net = ncc.parse(f"N {len(lines):02x}\nfn 20 1/(1+exp(-max(-60,min(60,5*x))))\n"
                        + "\n".join(lines) + "\n")
        fn = ncc.compile(net, dtype=dtype, numerics=numerics, tier="now", cache=False)
        expected = net.graph.run(x, dtype=dtype, numerics=numerics)
        np.testing.assert_array_equal(np.array([fn(row) for row in x]), expected)
        np.testing.assert_array_equal(fn(x), expected)

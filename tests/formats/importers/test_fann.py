"""FANN's `.net`: functions and files against a reading of fann_run, and against libfann itself
where it is installed."""

import math

import numpy as np
import pytest
from libfann import LIBRARIES, RECTIFIED
from oracles import compare, mutants, shared, survives

import ncc
from ncc.formats.importers.fann_functions import FORMULAS, RATIONAL, STEPWISE
from ncc.formats.importers.foreign import opened
from ncc.formats.importers.registry import read

REALS = {"f32": np.float32, "f64": np.float64}
FUNCTIONS = sorted([*FORMULAS, *STEPWISE])
ARGUMENTS = np.concatenate([
    np.random.default_rng(0).normal(size=200) * 2, np.random.default_rng(1).normal(size=50) * 1e3,
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.6466525, -2.6466524, 1.4722193, -1.4722195, 0.54930615,
     -0.54930615, 1e-30, -1e-30, 1e9, -1e9, 1e30, -1e30]])
KEYS = """learning_rate=0.700000
connection_rate={rate}
network_type={kind}
learning_momentum=0.000000
training_algorithm=2
train_error_function=1
train_stop_function=0
cascade_output_change_fraction=0.010000
quickprop_decay=-0.000100
quickprop_mu=1.750000
rprop_increase_factor=1.200000
rprop_decrease_factor=0.500000
rprop_delta_min=0.000000
rprop_delta_max=50.000000
rprop_delta_zero=0.100000
cascade_output_stagnation_epochs=12
cascade_candidate_change_fraction=0.010000
cascade_candidate_stagnation_epochs=12
cascade_max_out_epochs=150
cascade_min_out_epochs=50
cascade_max_cand_epochs=150
cascade_min_cand_epochs=50
cascade_num_candidate_groups=2
bit_fail_limit=3.5e-01
cascade_candidate_limit=1.0e+03
cascade_weight_multiplier=4.0e-01
cascade_activation_functions_count=1
cascade_activation_functions=3 
cascade_activation_steepnesses_count=1
cascade_activation_steepnesses=5.0e-01 
"""


def text(sizes, cells, kind=0, rate=1.0, scaling="scale_included=0\n"):
    """A file of cells (function, steepness, [(source, weight)])."""
    neurons = "".join(f"({len(reads)}, {f}, {s!r}) " for f, s, reads in cells)
    edges = "".join(f"({i}, {w!r}) " for *_, reads in cells for i, w in reads)
    return (f"FANN_FLO_2.1\nnum_layers={len(sizes)}\n{KEYS.format(rate=rate, kind=kind)}"
            f"layer_sizes={' '.join(map(str, sizes))} \n{scaling}"
            f"neurons (num_inputs, activation_function, activation_steepness)={neurons}\n"
            f"connections (connected_to_neuron, weight)={edges}\n")


def pieces(z, points, values, least, most):
    if z < points[0]:
        return least
    for v1, v2, r1, r2 in zip(points, points[1:], values, values[1:], strict=False):
        if z < v2:
            return ((r2 - r1) * (z - v1)) / (v2 - v1) + r1
    return most


STEPS = [0.549306154251098632812, 1.47221934795379638672, 2.64665293693542480469]
FOUR = ([-2.64665246009826660156, -1.47221946716308593750, -STEPS[0], *STEPS],
        [4.99999988824129104614e-03, 5.00000007450580596924e-02, 0.25, 0.75,
         9.49999988079071044922e-01, 9.95000004768371582031e-01], 0, 1)
SIX = ([-v for v in STEPS[::-1]] + STEPS,
       [-9.90000009536743164062e-01, -8.99999976158142089844e-01, -0.5, 0.5,
        8.99999976158142089844e-01, 9.90000009536743164062e-01], -1, 1)


def exp(x):
    return math.exp(x) if x < 709.7 else math.inf


# fann_activation_switch of 2.2.0: what is in float stays so, exp and the like are in double.
SWITCH = {
    0: lambda z, real: z,
    1: lambda z, real: 0 if z < 0 else 1,
    2: lambda z, real: -1 if z < 0 else 1,
    3: lambda z, real: 1 / (1 + exp(float(-real(2) * z))),
    4: lambda z, real: pieces(float(z), *FOUR),
    5: lambda z, real: 2 / (1 + exp(float(-real(2) * z))) - 1,
    6: lambda z, real: pieces(float(z), *SIX),
    7: lambda z, real: exp(float(-z * z)),
    8: lambda z, real: exp(float(-z * z)) * 2 - 1,
    9: lambda z, real: 0,
    10: lambda z, real: z / real(2) / (real(1) + abs(z)) + real(0.5),
    11: lambda z, real: z / (real(1) + abs(z)),
    12: lambda z, real: 0 if z < 0 else 1 if z > 1 else z,
    13: lambda z, real: -1 if z < -1 else 1 if z > 1 else z,
    14: lambda z, real: math.sin(z),
    15: lambda z, real: math.cos(z),
    16: lambda z, real: math.sin(z) / 2 + 0.5,
    17: lambda z, real: math.cos(z) / 2 + 0.5,
    18: lambda z, real: 0 if z < 0 else z,
    19: lambda z, real: float(z) * 0.01 if z < 0 else z,
}


@np.errstate(all="ignore")
def fann_run(sizes, cells, outputs, row, real):
    """A plain reading of fann_run in src/fann.c."""
    value = [real(v) for v in row] + [real(1)]
    for function, steepness, reads in cells[sizes[0]:]:
        if not reads:
            value.append(real(1))
            continue
        terms = [real(w) * value[i] for i, w in reads]
        total, rest = real(0), len(terms) % 4
        for term in terms[:rest][::-1]:
            total = total + term
        for k in range(rest, len(terms), 4):
            total = total + (terms[k] + terms[k + 1] + terms[k + 2] + terms[k + 3])
        s = real(steepness)
        z, most = s * total, real(150) / s
        z = most if z > most else -most if z < -most else z
        value.append(real(SWITCH[function](z, real)))
    first = sum(sizes[:-1])
    return value[first:first + outputs]


@pytest.fixture
def saved(tmp_path):
    def save(words):
        path = tmp_path / "some.net"
        path.write_text(words)
        return path
    return save


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_is_that_of_the_source(saved, function, dtype):
    assert set(SWITCH) == set(FUNCTIONS)
    real = REALS[dtype]
    for steepness in (0.5, 1.0, 0.3):
        cells = [(0, 0.0, [])] * 2 + [(function, steepness, [(0, 1.0)]), (0, 0.0, [])]
        path = saved(text((2, 2), cells))
        x = ARGUMENTS.astype(real)[:, None]
        y = ncc.load(path).graph.run(x, dtype=dtype, numerics="strict")
        expected = np.array([fann_run((2, 2), cells, 1, row, real) for row in x])
        if function in RATIONAL:
            np.testing.assert_array_equal(y, expected)
        else:
            np.testing.assert_allclose(y, expected, **(
                dict(rtol=1e-6, atol=3e-7) if dtype == "f32" else dict(rtol=1e-13, atol=1e-15)))
        if dtype in LIBRARIES and function < RECTIFIED:
            np.testing.assert_allclose(LIBRARIES[dtype](path, x), expected, rtol=1e-6, atol=1e-7)


def random_net(rng, kind, functions):
    """Sizes, cells and outputs of a net of random functions, layered (0) or shortcut (1)."""
    if kind == 1:
        sizes = [int(rng.integers(2, 7)), *[1] * int(rng.integers(1, 5)), int(rng.integers(1, 4))]
    else:
        sizes = [int(k) for k in rng.integers(2, 11, int(rng.integers(2, 5)))]
    cells, base = [(0, 0.0, [])] * sizes[0], 0
    for before, size in zip(sizes, sizes[1:], strict=False):
        reads = range(len(cells)) if kind == 1 else range(base, base + before)
        made = [(int(rng.choice(functions)), float(rng.uniform(0.2, 2)),
                 [(i, float(np.float32(rng.normal()))) for i in reads])
                for _ in range(size - (kind == 0))]
        base = len(cells)
        cells = cells + made + [(0, 0.0, [])] * (kind == 0)
    return sizes, cells, sizes[-1] - (kind == 0)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("seed", range(6))
def test_random_nets_have_the_bits_of_fann_run(saved, seed, dtype):
    """Layered, shortcut, and layered with connections lost and in another order."""
    rng, real = np.random.default_rng(seed), REALS[dtype]
    sizes, cells, outputs = random_net(rng, seed % 2, sorted(RATIONAL))
    rate = 1.0
    if seed >= 4:
        rate = 0.5
        cells = [(f, s, [reads[k] for k in rng.permutation(len(reads))[:len(reads) - 1]])
                 for f, s, reads in cells]
    path = saved(text(sizes, cells, seed % 2, rate))
    x = rng.normal(size=(12, sizes[0] - 1)).astype(real)
    expected = np.array([fann_run(sizes, cells, outputs, row, real) for row in x])
    made = read([opened(path)])
    assert (made.exactness, made.graph.numerics, made.graph.dtype) == ("A", "strict", "f32")
    net = ncc.load(path)
    y = net.graph.run(x, dtype=dtype, numerics="strict")
    np.testing.assert_array_equal(y, expected)
    if dtype in LIBRARIES and not any(f >= RECTIFIED for f, _, reads in cells if reads):
        np.testing.assert_array_equal(y, LIBRARIES[dtype](path, x))
    plain = ncc.load(path, simple=True)
    assert plain.n_neurons <= net.n_neurons
    np.testing.assert_allclose(plain.graph.run(x, dtype=dtype, numerics="strict"), expected,
                               rtol=0, atol=2e-4 if dtype == "f32" else 1e-12)


@pytest.mark.parametrize("name, exactness", [
    ("pieces_exact", "A"), ("shortcut_exact", "A"), ("cascade", "B"), ("sigmoid", "B"),
    ("scaled", "B"), ("sparse_mixed", "B"), ("stepwise", "B")])
def test_shared_files_are_what_libfann_computes(name, exactness):
    path = shared(f"fann/{name}.net")
    found = np.load(path.with_suffix(".npz"))
    made = read([opened(path)])
    assert made.exactness == exactness
    assert made.notes == (("the file has scaling, which fann_run does not apply: --scaling does",)
                          if name == "scaled" else ())
    net = ncc.load(path)
    for dtype, key in ("f32", "y"), ("f64", "y_double"):
        y = net.graph.run(found["x"], dtype=dtype, numerics="strict")
        if exactness == "A":
            fn = ncc.compile(net, dtype=dtype, numerics="strict")
            np.testing.assert_array_equal(fn(found["x"]), y)
        compare(path, y, found[key], exactness)
    compare(path, ncc.load(path, simple=True).graph.run(found["x"]), found["y"], "C")


@pytest.mark.parametrize("name", ["fann/pieces_exact.net", "sharpneat/binary11.net"])
def test_a_command_computes_as_the_tool_does_without_being_told(name, tmp_path, ncc_):
    """The net asks for the dtype and the numerics, from its own file and from a net file."""
    path = shared(name)
    found = np.load(path.with_suffix(".npz"))
    np.save(tmp_path / "x.npy", found["x"])
    kept, y = tmp_path / "kept.nal", tmp_path / "y.npy"
    assert ncc_("import", str(path), "-o", str(kept))[0] == 0
    for net in (path, kept):
        assert ncc_("run", str(net), "--input", str(tmp_path / "x.npy"), "-o", str(y))[0] == 0
        made = np.load(y)
        assert made.dtype == found["y"].dtype and (made == found["y"]).all()


def test_shared_file_of_integers_is_refused():
    with pytest.raises(ncc.NccError, match="FANN_FIX_2.0: a net of integers") as caught:
        ncc.load(shared("fann/sigmoid_fixed.net"))
    assert caught.value.code == "E817"


def test_scaling_is_applied_where_it_is_asked_for():
    path = shared("fann/scaled.net")
    found = np.load(path.with_suffix(".npz"))
    net = ncc.load(path, scaling=True)
    compare(path, net.graph.run(found["x"], numerics="strict"), found["y_descaled"], "B")


SCALING = """scale_included=1
scale_mean_in=0.5
scale_deviation_in=2.0
scale_new_min_in=-1.0
scale_factor_in=1.5
scale_mean_out=0.25 3.0
scale_deviation_out=4.0 0.0
scale_new_min_out=-2.0 1.0
scale_factor_out=0.75 5.0
"""
LAYERS = [(0, 0.0, [])] * 2 + [(0, 1.0, [(0, 1.5), (1, -0.5)]), (11, 0.5, [(0, 2.0), (1, 0.25)]),
                               (0, 0.0, [])]


def test_a_deviation_of_0_leaves_a_value_alone(saved):
    path = saved(text((2, 3), LAYERS, scaling=SCALING))
    x = 0.75
    z = ((x - 0.5) / 2 + 1) * 1.5 - 1
    a, b = 1.5 * z - 0.5, 0.5 * (2 * z + 0.25)
    np.testing.assert_allclose(
        ncc.load(path, scaling=True).graph.run([[x]], dtype="f64"),
        [[((a + 2) / 0.75 - 1) * 4 + 0.25, b / (1 + abs(b))]], rtol=1e-15)


GOOD = text((2, 3), LAYERS)


@pytest.mark.parametrize("words, code, message", [
    (GOOD.replace("FLO_2.1", "FLO_1.1"), "E802", ":1:1: error[E802]: FANN_FLO_1.1"),
    (GOOD.replace("FLO_2.1", "FIX_2.1"), "E817", "a net of integers"),
    (GOOD.replace("(0, 1.5)", "(0, 1,5)"), "E801", "a comma where the decimal point"),
    (GOOD.replace("rate=0.700000\nconnection_rate=1.0", "rate=0,7\nconnection_rate=1,0"), "E801",
     "a rate is wanted here, a finite number, not '1,0'"),
    (GOOD.replace("(0, 1.5)", "(0, nan)"), "E801", "no connections can be read here"),
    (GOOD.replace("(0, 1.5)", "(0, 1e999)"), "E801", "a weight is wanted here"),
    (GOOD.replace("(0, 1.5)", "(1, 1.5)"), "E801", "libfann takes it from 0"),
    (GOOD.replace("(0, 1.5)", "(2, 1.5)"), "E812", "neuron 2 reads 2"),
    (GOOD.replace("(1, -0.5)", "(0, 1.5)").replace("rate=1.0", "rate=0.5"), "E801",
     "two connections from"),
    (GOOD.replace("(2, 0, 1.0)", "(3, 0, 1.0)"), "E816", "4 of connections"),
    (GOOD.replace("(2, 0, 1.0)", "(1, 0, 1.0)"), "E816", "4 of connections"),
    (GOOD.replace("(2, 0, 1.0)", "(2, 20, 1.0)"), "E811", "function 20"),
    (GOOD.replace("(2, 0, 1.0)", "(2, 0, -1.0)"), "E813", "a steepness of -1.0"),
    (GOOD.replace("(2, 0, 1.0)", "(2, 0; 1.0)"), "E801", "no neurons can be read here"),
    (GOOD.replace("(0, 0, 0.0) (0, 0, 0.0) (2", "(0, 0, 0.0) (2, 0, 0.0) (0"), "E801",
     "neuron 1, an input, has connections"),
    (GOOD.replace("layer_sizes=2 3", "layer_sizes=2 4"), "E816", "5 of neurons"),
    (GOOD.replace("layer_sizes=2 3", "layer_sizes=2 3 1"), "E816", "3 sizes of 2 layers"),
    (GOOD.replace("layer_sizes=2 3", "layer_sizes=5 0"), "E801", "none empty"),
    (GOOD.replace("layer_sizes=2 3", "layer_sizes=1000000000 3"), "E819", "1000000003 neurons"),
    (GOOD.replace("num_layers=2\n", ""), "E801", "the line num_layers= is missing"),
    (GOOD.replace("num_layers=2\n", "num_layers=2\nnum_layers=2\n"), "E801", "a second line"),
    (GOOD.replace("num_layers=2\n", "num_layers=2\nword\n"), "E801", ":3:1: error[E801]: this is"),
    (GOOD.replace("network_type=0", "network_type=2"), "E801", "0 (layered) or 1 (shortcut)"),
    (text((2, 3), LAYERS, scaling=SCALING.replace("_in=0.5", "_in=0.5 1")), "E816", "2 values of"),
    (text((2, 3), LAYERS, scaling=SCALING.replace("out=0.75", "out=0.0")), "E813", "factor of 0"),
])
def test_what_is_refused(saved, words, code, message):
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(saved(words), source="fann")
    assert caught.value.code == code and message in str(caught.value)


def test_scaling_that_is_not_there(saved):
    with pytest.raises(ncc.NccError, match="no scaling"):
        ncc.load(saved(GOOD), scaling=True)


def test_the_first_line_tells_whose_net_it_is(saved):
    assert read([opened(saved(GOOD))]).importer == "fann"
    assert read([opened(saved("1 1\n\nacyclic\n\n0 1 1\n\n0 ReLU\n"))]).importer == "sharpneat"


def test_an_import_is_the_same_net_as_the_texts_of_it(saved, tmp_path, ncc_):
    sizes, cells, _ = random_net(np.random.default_rng(3), 1, [0, 5, 11])
    path = saved(text(sizes, cells, 1))
    x = np.random.default_rng(0).normal(size=(9, sizes[0] - 1))
    for ending in ("graph", "nal"):
        out = tmp_path / f"kept.{ending}"
        assert ncc_("import", str(path), "-o", str(out))[0] == 0
        np.testing.assert_array_equal(ncc.load(out).graph.run(x, numerics="strict"),
                                      ncc.load(path).graph.run(x, numerics="strict"))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_broken_files_are_refused_or_read(tmp_path, seed):
    data = text((2, 3), LAYERS, scaling=SCALING).replace(KEYS.format(rate=1.0, kind=0), (
        "connection_rate=1\nnetwork_type=0\n")).encode()
    codes = {survives(tmp_path / "m.net", made, source="fann")
             for made in mutants(data, seed, 2000 if seed else 150)}
    assert {None, "E801", "E816"} <= codes

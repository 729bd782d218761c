"""Matrix Market, npz and npy, scipy and numpy, SNAP, the Graph Challenge: values, refusals, hostile
files."""

from __future__ import annotations

import io
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import compare, mutants, shared, survives

import ncc
from ncc.cli import main
from ncc.formats.exporters.registry import named
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Foreign, Options
from ncc.nets.net import ordered

sparse = pytest.importorskip("scipy.sparse")
scipy_io = pytest.importorskip("scipy.io")

MM = "%%MatrixMarket matrix coordinate real general\n"


def imported(data, source="matrix-market", **options):
    data = [data] if isinstance(data, str | bytes) else data
    files = [Foreign(f"f{k}", "", text.encode() if isinstance(text, str) else text)
             for k, text in enumerate(data)]
    return registry.read(files, source, Options(**options))


def graph_of(data, source="matrix-market", **options):
    return ordered(imported(data, source, **options))


def propagated(w, x):
    """Inputs, outputs and values of the net whose adjacency matrix is w, by numpy."""
    there = w != 0
    inputs = np.flatnonzero(~there.any(axis=0))
    values, known = np.zeros((len(x), len(w))), ~there.any(axis=0)
    values[:, inputs] = x
    while not known.all():
        for j in np.flatnonzero(~known):
            if known[there[:, j]].all():
                values[:, j], known[j] = values @ w[:, j], True
    outputs = np.flatnonzero(there.any(axis=0) & ~there.any(axis=1))
    return inputs.tolist(), outputs.tolist(), values[:, outputs]


def saved(matrix, **how):
    file = io.BytesIO()
    sparse.save_npz(file, matrix, **how)
    return file.getvalue()


def packed(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_shared_adjacency_matrices_compute_what_numpy_does():
    w = sparse.load_npz(shared("graphs/adjacency.npz")).toarray()
    x = np.random.default_rng(0).normal(size=(20, 4))
    inputs, outputs, y = propagated(w, x)
    for name in ("adjacency.npz", "adjacency.mtx"):
        net = ncc.load(shared(f"graphs/{name}"))
        assert (net.inputs, net.outputs) == (inputs, outputs)
        compare(shared(f"graphs/{name}"), net.graph.run(x, dtype="f64"), y, "C")


def test_shared_layers_and_edges():
    path = shared("graphs/layer_12x9.mtx")
    w = scipy_io.mmread(path).toarray()
    net = ncc.load(path)
    x = np.random.default_rng(0).normal(size=(20, 12))
    compare(path, net.graph.run(x, dtype="f64"), x @ w, "C")
    turned = ncc.load(path, transpose=True).graph
    compare(f"{path} --transpose", turned.run(x[:, :9], dtype="f64"), x[:, :9] @ w.T, "C")
    edges = ncc.load(shared("graphs/edges.txt"))
    assert [label.name for label in edges.graph.labels] == [str(10 * k) for k in range(14)]
    assert (edges.inputs, edges.n_edges, edges.params) == ([0, 1, 2, 3], 25, None)
    rows = np.loadtxt(shared("graphs/edges.txt"), dtype=int) // 10
    ends = np.repeat(np.arange(14), np.diff(edges.graph.starts))
    assert sorted(zip(edges.graph.sources.tolist(), ends.tolist(), strict=True)) == sorted(
        map(tuple, rows.tolist()))


@st.composite
def matrices(draw, square=None):
    """Rows, columns, and entries (row, column, value) of a matrix, some of value 0."""
    height = draw(st.integers(1, 8))
    width = height if square else draw(st.integers(1, 8).filter(lambda n: n != height))
    places = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    chosen = draw(st.lists(places.filter(lambda p: not square or p[0] < p[1]), unique=True))
    return height, width, [(*place, draw(st.integers(-8, 8)) / 4) for place in chosen]


def ways(height, width, entries):
    """The matrix in every form that is read."""
    rows, columns, values = (list(side) for side in zip(*entries, strict=True))
    made = sparse.coo_array((values, (rows, columns)), shape=(height, width))
    text = MM + f"{height} {width} {len(entries)}\n" + "".join(
        f"{i + 1} {j + 1} {v!r}\n" for i, j, v in entries)
    yield graph_of(text)
    yield graph_of(text.replace("\n", "\r\n").replace("\r\n", "\n% c\r\n", 1).replace(" ", "\t \t"
                   ).replace("%%MatrixMarket\t \t", "%%matrixmarket "))
    for kind in ("coo", "csr", "csc"):
        yield graph_of(saved(made.asformat(kind)), "scipy")
        yield ncc.from_scipy(made.asformat(kind)).graph
    yield ncc.load(sparse.csr_matrix(made)).graph
    yield graph_of(saved(made.tocsr(), compressed=False), "scipy")


@given(matrices(square=True))
def test_one_matrix_in_every_form_is_one_net(matrix):
    height, width, entries = matrix
    if not entries:
        return
    nets = list(ways(height, width, entries))
    assert {str(net) for net in nets} == {str(nets[0])}
    edges = sorted((j, i, v) for i, j, v in entries)
    assert nets[0].sources.tolist() == [i for _, i, _ in edges]
    assert nets[0].values.tolist() == [v for _, _, v in edges]
    back = graph_of(named("matrix-market").write(nets[0], False))
    assert str(back) == str(nets[0])
    assert str(graph_of(named("scipy").write(nets[0], False), "scipy")) == str(nets[0])
    live = ncc.Net(nets[0])
    assert str(ncc.from_scipy(live.to_scipy()).graph) == str(nets[0])


@given(matrices(square=False), st.integers(0, 99))
def test_a_layer_is_a_product(matrix, seed):
    height, width, entries = matrix
    w = np.zeros((height, width))
    for i, j, v in entries:
        w[i, j] = v
    x = np.random.default_rng(seed).integers(-8, 9, (3, height)) / 2
    if entries:
        for graph in ways(height, width, entries):
            assert (graph.run(x, dtype="f64") == x @ w).all()
            assert graph.n_edges == len(entries)
    for graph in (ncc.load(w).graph, graph_of(npy(w), "scipy"),
                  graph_of(npy(np.asfortranarray(w)), "scipy"), graph_of(packed(w=w), "scipy")):
        assert (graph.run(x, dtype="f64") == x @ w).all() and graph.n_edges == w.size
    assert ncc.load(w, drop_zeros=True).n_edges == np.count_nonzero(w)


def test_layers_chain(tmp_path, capsys):
    rng = np.random.default_rng(0)
    ws = [rng.normal(size=shape) * (rng.random(shape) < 0.5) for shape in ((4, 6), (6, 6), (6, 2))]
    x = rng.normal(size=(5, 4))
    h = x
    for w in ws:
        h = np.maximum(h @ w - 0.25, 0)
    names = []
    for k, w in enumerate(ws):
        names.append(str(tmp_path / f"W{k}.mtx"))
        scipy_io.mmwrite(names[-1], sparse.coo_array(w), symmetry="general", precision=17)
    out = tmp_path / "net.graph"
    assert main(["import", *names, "-o", str(out), "--activation", "relu", "--bias", "-0.25"]) == 0
    assert "matrix-market, 18 neurons" in capsys.readouterr().err
    live = ncc.from_scipy(ws, activation="relu", bias=-0.25, drop_zeros=True)
    turned = ncc.from_scipy([sparse.csr_array(w.T) for w in ws], activation="relu", bias=-0.25,
                            transpose=True)
    listed = ncc.load(names, activation=3, bias=-0.25)  # relu by its code
    nets = [ncc.load(out), live, turned, listed]
    assert len({str(net.graph) for net in nets}) == 1
    np.testing.assert_allclose(live.graph.run(x, dtype="f64"), h, rtol=1e-12, atol=1e-14)
    assert [(label.name, label.first, label.shape) for label in live.graph.labels] == [
        ("x", 0, (4,)), ("layer1", 4, (6,)), ("layer2", 10, (6,)), ("layer3", 16, (2,))]
    assert main(["import", *names[::2], "-o", str(out)]) == 0
    assert main(["import", *names[::-2], "-o", str(out)]) == 1
    assert "error[E816]: a layer from 4 to 6 after one from 6 to 2: 4 is not 2" in (
        capsys.readouterr().err)
    with pytest.raises(ncc.NccError, match="<matrix 1>: error.*E816"):
        ncc.from_scipy([ws[0], ws[2][:5]])


def test_a_square_matrix_is_a_net_or_a_layer():
    w = np.array([[0, 2.0, 0], [0, 0, 3], [0, 0, 0]])
    assert ncc.load(w).graph.run(np.array([[1.0]])).tolist() == [[6.0]]
    assert ncc.load(w, layered=True).graph.run(np.ones((1, 3))).tolist() == [[0.0, 2.0, 3.0]]
    assert str(ncc.load([w]).graph) == str(ncc.load(w, layered=True).graph)
    with pytest.raises(ncc.NccError, match=r"a cycle: 00 -> 01 -> 00[^$]*--layered") as caught:
        ncc.load(np.array([[0, 1.0], [1, 0]]))
    assert caught.value.code == "E812"


def test_a_column_without_entries_and_biases():
    net = ncc.load(sparse.coo_array(([1.0], ([0], [0])), shape=(2, 3)), activation="exp")
    assert net.graph.run(np.zeros((1, 2))).tolist() == [[1.0, 1.0, 1.0]]
    assert net.n_params == 1
    net = ncc.load(np.array([[1.0, 2.0, 3.0]]), bias=0.5, activation="x*x")
    assert net.graph.run(np.ones((1, 1))).tolist() == [[2.25, 6.25, 12.25]]
    assert net.graph.values.tolist() == [1.0, 0.5, 2.0, 0.5, 3.0, 0.5]
    for wrong in ("my_act", "99", 0x99):
        with pytest.raises(ncc.NccError, match=r"E118.*(my_act|99)"):
            ncc.load(np.ones((1, 2)), activation=wrong)
    assert ncc.load(np.ones((1, 2)), activation="my_act", fn={"my_act": "x^3"}).n_edges == 2


def test_kinds_of_values():
    pattern = MM.replace("real", "pattern") + "3 3 2\n1 2\n2 3\n"
    assert np.isnan(graph_of(pattern).values).all()
    assert ncc.load(sparse.csr_array(np.triu(np.ones((3, 3), bool), 1))).params is None
    assert graph_of(MM.replace("real", "integer") + "2 2 1\n1 2 7\n").values.tolist() == [7.0]
    exact = graph_of(MM + "2 2 1\n1 2 0.1\n").values.tolist()
    assert exact == [0.1]
    for dtype in (np.float32, np.int8, np.uint64):
        w = np.array([[0, 3], [0, 0]], dtype)
        assert ncc.load(w).graph.values.tolist() == [3.0]
    made = imported(MM + "3 3 2\n1 2 0\n2 3 1\n")
    assert made.notes == ("1 edges of weight 0 are kept; --drop-zeros leaves them out",)
    assert imported(MM + "3 3 2\n1 2 0\n2 3 1\n", drop_zeros=True).graph.n_edges == 1
    for wrong, code in ((np.ones((2, 2), complex), "E817"), (np.array([["a", "b"]]), "E817"),
                        (np.array([[1, None]]), "E817"), (np.array([[0, 2**60 + 1]]), "E801"),
                        (np.array([[1.0, np.nan]]), "E801"), (np.ones(3), "E801"),
                        (np.ones((2, 2, 2)), "E801"), (np.zeros((0, 3)), None),
                        (np.zeros((3, 3)), "E801"), (np.zeros((3, 0)), "E801")):
        if code is None:
            assert ncc.load(wrong).n_edges == 0
            continue
        with pytest.raises(ncc.NccError) as caught:
            ncc.load(wrong)
        assert caught.value.code == code, wrong


@pytest.mark.parametrize("text, code, line, words", [
    (MM + "3 3 2\n1 2 1\n2 4 1\n", "E801", 4, "this column is not one of 3"),
    (MM + "% a\n\n3 3 2\n1 2 1\n\n0 3 1\n", "E801", 7, "this row is not one of 3"),
    (MM + "3 3 2\n1 2 1\n1 2 1\n", "E801", 4, "a second entry"),
    (MM + "3 3 2\n1 2 1\n2 3 nan\n", "E801", 4, "no finite number"),
    (MM + "3 3 2\n1 2 1\n2 3 1e999\n", "E801", 4, "no finite number"),
    (MM + "3 3 2\n1 2 1\n2 3 0x10\n", "E801", 4, "'0x10' as value is not a number"),
    (MM + "3 3 2\n1 2 1\n2 3 1_0\n", "E801", 4, "'1_0' as value"),
    (MM + "3 3 2\n1 2 1\n2 3.0 1\n", "E801", 4, "'3.0' as column is not an integer"),
    (MM + "3 3 2\n1 2 1\n2 99999999999 1\n", "E801", 4, "an integer of 32 bits"),
    (MM + "3 3 2\n1 2 1\n2 3\n", "E801", 4, "2 fields, not 3"),
    (MM + "3 3 2\n1 2 1\n2 3 1 1\n", "E801", 4, "4 fields, not 3"),
    (MM + "3 3 2\n1 2 1\n", "E801", None, "2 entries by its second line, and 1 follow"),
    (MM + "3 3 0\n1 2 1\n", "E801", None, "0 entries by its second line, and 1 follow"),
    (MM + "3 3\n1 2 1\n", "E801", 2, "numbers of rows, columns and entries"),
    (MM, "E801", None, "are missing"),
    (MM + "% only\n% comments", "E801", None, "are missing"),
    ("%%MatrixMarket matrix coordinate real\n", "E801", 1, "object, format, field and symmetry"),
    ("%MatrixMarket\n", "E801", None, "begins with %%MatrixMarket"),
    (MM.replace("general", "symmetric"), "E813", 1, "the symmetry is symmetric"),
    (MM.replace("general", "skew-symmetric"), "E813", 1, "the symmetry is skew-symmetric"),
    (MM.replace("real", "complex"), "E813", 1, "the field is complex"),
    (MM.replace("coordinate", "array"), "E813", 1, "the format is array"),
    (MM.replace(" matrix", " vector"), "E813", 1, "the object is vector"),
    (MM + "1000000000 1000000000 1\n1 2 1\n", "E819", None, "1000000000 neurons and 1 edges"),
    (MM + "99999999999999999999 3 1\n1 2 1\n", "E819", None, "--max-edges"),
    (MM + "5000000 5000000 1\n1 2 1\n", "E819", None, "5000000 neurons"),
    (MM + "9 9 1000000000\n1 2 1\n", "E819", None, "1000000000 edges"),
])
def test_matrix_market_that_is_refused(text, code, line, words):
    with pytest.raises(ncc.NccError) as caught:
        graph_of(text)
    found = caught.value
    assert (found.code, found.span.line if found.span else None) == (code, line), found
    assert words in str(found)


def test_bytes_that_are_no_text_are_refused_with_their_line():
    with pytest.raises(ncc.NccError, match="E801") as caught:
        graph_of(MM.encode() + b"3 3 2\n1 2 1\n2 3 \xff\n")
    assert caught.value.span.line == 4


def head(shape="(2, 3)", descr="'<f8'", version=1, order="False"):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(
        2 if version == 1 else 4, "little") + text


@pytest.mark.parametrize("data, code, words", [
    (head() + bytes(47), "E801", "48 bytes of numbers are declared, and 47 follow"),
    (head() + bytes(49), "E801", "more follows than the 48 bytes"),
    (head("(100000000,)"), "E801", "800000000 bytes of numbers are declared, and 0 follow"),
    (head("(1000000, 1000000)"), "E819", "1000000000000 edges"),
    (head("(9999999999999999999999, 1)"), "E801", "no array of numbers"),
    (head("(" + "1, " * 5000 + ")") + bytes(8), "E801", "axes is no matrix"),
    (head("(2, 2", "'<f8'"), "E801", "no array of numbers"),
    (head("(5 5, 2)"), "E801", "no array of numbers"),
    (head("(-1, 2)"), "E801", "no array of numbers"),
    (head(descr="'|O'") + b"cos\nsystem\n", "E818", "a pickle"),
    (head(descr="'<c16'"), "E817", "complex128"),
    (head(descr="[('a', '<f8')]"), "E817", "no array of numbers"),
    (head(descr="'<U99999999'"), "E817", "no real numbers"),
    (head(descr="'<f99'"), "E801", "no type of numpy's"),
    (head(version=9), "E802", "version 9"),
    (b"\x93NUMPY", "E801", "no array"),
    (b"PK\x05\x06" + bytes(18), "E801", "without entries"),
    (b"PK\x05\x06 .npy", "E801", "damaged zip"),
])
def test_npy_that_is_refused(data, code, words):
    with pytest.raises(ncc.NccError) as caught:
        graph_of(data, "scipy")
    assert caught.value.code == code and words in str(caught.value), caught.value


@pytest.mark.parametrize("changes, code, words", [
    ({"format": b"dia"}, "E813", "the format is dia"),
    ({"shape": None}, "E801", "the entry shape is missing"),
    ({"data": None}, "E801", "the entry data is missing"),
    ({"shape": np.array([3, 3, 3])}, "E801", "no shape of a matrix"),
    ({"shape": np.array([-3, 3])}, "E801", "no shape of a matrix"),
    ({"shape": np.array([3.5, 3])}, "E801", "/shape"),
    ({"shape": np.array([10**9, 10**9])}, "E819", "1000000000 neurons"),
    ({"indptr": np.array([0, 1, 2])}, "E801", "3 lists"),
    ({"indptr": np.array([0, 2, 1, 2])}, "E801", "no starts of lists of 2 entries"),
    ({"indptr": np.array([0, 1, 1, 3])}, "E801", "no starts of lists of 2 entries"),
    ({"indptr": np.array([[0, 1, 2, 2]])}, "E801", "3 lists"),
    ({"indices": np.array([1, 3])}, "E801", "entry (1, 3): this column is not one of 3"),
    ({"indices": np.array([-1, 2])}, "E801", "this column is not one of 3"),
    ({"indices": np.array([1.0, 2])}, "E801", "/indices"),
    ({"indices": np.array([1, 2, 2])}, "E801", "beside data"),
    ({"data": np.array([1, 1j])}, "E817", "complex128"),
    ({"data": np.array([1, np.inf])}, "E801", "entry (1, 2): inf is no finite number"),
    ({"data": np.array(["1", "2"])}, "E817", "no real numbers"),
    ({"indptr": np.array([0, 2, 2, 2]), "indices": np.array([1, 1])}, "E801", "a second entry"),
])
def test_npz_that_is_refused(changes, code, words):
    arrays = {"format": b"csr", "shape": np.array([3, 3]), "data": np.array([1.0, 2.0]),
              "indices": np.array([1, 2]), "indptr": np.array([0, 1, 2, 2])} | changes
    with pytest.raises(ncc.NccError) as caught:
        graph_of(packed(**{k: v for k, v in arrays.items() if v is not None}), "scipy")
    assert caught.value.code == code and words in str(caught.value), caught.value


def test_archives_that_are_bombs_or_forged():
    bomb = packed(format=b"coo", shape=[9, 9], row=[0], col=[1], data=np.zeros(9_000_000))
    with pytest.raises(ncc.NccError, match=r"E819.*68 MiB packed into \d+ bytes"):
        graph_of(bomb, "scipy")
    plain = zipfile.ZipFile(io.BytesIO(saved(sparse.csr_array(np.eye(3, 4)), compressed=False)))
    parts = {name: plain.read(name) for name in plain.namelist()}

    def again(**how):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as made:
            for name, data in (parts | how).items():
                made.writestr(name, data)
        return file.getvalue()

    assert graph_of(again(), "scipy").n_edges == 3
    for name in parts.keys() - {"_is_array.npy"}:
        with pytest.raises(ncc.NccError, match="E801"):
            graph_of(again(**{name: parts[name][:-1]}), "scipy")
    damaged = bytearray(again())
    damaged[damaged.index(parts["data.npy"]) + len(parts["data.npy"]) - 1] ^= 1
    with pytest.raises(ncc.NccError, match=r"E801.*damaged zip file: Bad CRC"):
        graph_of(bytes(damaged), "scipy")
    with pytest.raises(ncc.NccError, match=r"E819.*more than 4096 entries"):
        graph_of(again(**{f"a{k}.npy": npy(np.ones((1, 1))) for k in range(4100)}), "scipy")


# Edge lists ---------------------------------------------------------------------------------------


def test_snap_lists():
    text = "# FromNodeId\tToNodeId\tWeight\n\n7\t900\t0.5 # that\n7 30 2\r\n30 900 -1"
    graph = graph_of(text, "snap", activation="relu")
    assert [label.name for label in graph.labels] == ["7", "30", "900"]
    assert graph.run(np.array([[3.0], [-1.0]])).tolist() == [[0.0], [0.0]]
    assert graph.values.tolist() == [2.0, 0.5, -1.0]
    assert graph_of("0 1\n1 2\n", "snap").labels == ()


@pytest.mark.parametrize("text, code, line, words", [
    ("# Undirected graph: a.txt\n1 2\n", "E810", 1, "undirected"),
    ("1 2\n2 -3\n", "E801", 2, "-3 as to"),
    ("1 2\n2 3 0.5\n", "E801", 2, "3 fields, not 2"),
    ("1 2 0.5\n2 x 0.5\n", "E801", 2, "'x' as to"),
    ("1 2\n1 2\n", "E801", 2, "a second entry"),
    ("1 2\n2 2\n", "E812", None, "a cycle: 2 -> 2"),
    ("10 20\n20 30\n30 10\n", "E812", None, "a cycle: 10 -> 20 -> 30 -> 10"),
    ("# nothing\n", "E801", None, "without outputs"),
])
def test_snap_that_is_refused(text, code, line, words):
    with pytest.raises(ncc.NccError) as caught:
        graph_of(text, "snap")
    found = caught.value
    assert (found.code, found.span.line if found.span else None) == (code, line), found
    assert words in str(found)
    with pytest.raises(ncc.NccError, match="a second file"):
        graph_of([text, text], "snap")


def test_layers_of_the_graph_challenge(tmp_path):
    layers = ["1 2 0.0625\n2 1 0.0625\n3 3 0.0625\n", "1 1 0.0625\n2 3 0.0625\n"]
    how = {"activation": "min(max(x,0),32)", "bias": -0.3}
    graph = graph_of(layers, "graph-challenge", **how)
    ws = [np.zeros((3, 3)), np.zeros((3, 3))]
    ws[0][[0, 1, 2], [1, 0, 2]] = ws[1][[0, 1], [0, 2]] = 0.0625
    x = h = np.random.default_rng(0).random((6, 3)) * 2000
    for w in ws:
        h = np.clip(h @ w - 0.3, 0, 32)
    np.testing.assert_allclose(graph.run(x, dtype="f64"), h, rtol=1e-12, atol=1e-12)
    wide = graph_of(layers, "graph-challenge", inputs=5, outputs=4)
    assert (len(wide.inputs), len(wide.outputs), wide.n_neurons) == (5, 4, 12)
    path = tmp_path / "n3-l1.tsv"
    path.write_text(layers[0])
    assert ncc.load(path).n_neurons == 6  # the challenge's names of files
    turned = graph_of(["1 4 1\n"], "graph-challenge", transpose=True)
    assert (len(turned.inputs), len(turned.outputs)) == (4, 1)
    for text, code, words in (("0 1 1\n", "E801", "f0:1:1: .*0 as row"),
                              ("1 1\n", "E801", "fields"),
                              ("1 2000000000 1\n", "E819", "2000000001 neurons")):
        with pytest.raises(ncc.NccError, match=words) as caught:
            graph_of([text], "graph-challenge")
        assert caught.value.code == code
    with pytest.raises(ncc.NccError, match=r"--inputs 2, and the file has number 3"):
        graph_of(layers, "graph-challenge", inputs=2)


@pytest.mark.parametrize("name", [
    "graphs/adjacency.mtx", "graphs/adjacency.npz", "graphs/layer_12x9.mtx", "graphs/edges.txt",
    "graphs/random.graphml", "graphs/random_node_link.json", "sklearn/iris_relu.pkl",
    "sklearn/cancer_logistic.pkl"])
def test_an_imported_net_comes_back_from_ncc_s_files(name, tmp_path):
    path, pickled = shared(name), name.endswith("pkl")
    net = ncc.load(path, allow_pickle=True) if pickled else ncc.load(path)
    for ending in ("nal", "graph"):
        out = tmp_path / f"net.{ending}"
        assert main(["import", str(path), "-o", str(out), *["--allow-pickle"] * pickled]) == 0
        back = ncc.load(out)
        for field in ("sources", "weights", "biases", "values", "constants", "outputs", "levels"):
            assert (getattr(back.graph, field) == getattr(net.graph, field)).all() or (
                np.isnan(back.graph.values).all())
        assert ending == "nal" or str(back.graph) == str(net.graph)


def test_files_are_known_by_ending_and_first_bytes(tmp_path):
    for name, data, source in (
            ("a.mtx", MM + "2 2 1\n1 2 1\n", "matrix-market"), ("a.txt", "1 2\n", "snap"),
            ("a.tsv", "1 2\n", "snap"), ("a.edges", "# c\n1 2 0.5\n", "snap"),
            ("n2-l1.tsv", "1 2 1\n", "graph-challenge"),
            ("a.npy", npy(np.ones((1, 2))), "scipy"),
            ("a.npz", saved(sparse.csr_array(np.ones((1, 2)))), "scipy")):
        file = Foreign(name, "", data.encode() if isinstance(data, str) else data)
        assert registry.importer_of(file).name == source


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name, source", [
    ("a.mtx", "matrix-market"), ("a.npz", "scipy"), ("b.npz", "scipy"), ("a.npy", "scipy"),
    ("a.txt", "snap"), ("a.tsv", "graph-challenge")])
def test_files_that_are_broken_at_random(tmp_path, name, source, count):
    w = np.triu(np.arange(1.0, 26).reshape(5, 5), 1)
    rows, columns = np.nonzero(w)
    lines = "".join(f"{i + 1} {j + 1} {v!r}\n"
                    for i, j, v in zip(rows, columns, w[rows, columns].tolist(), strict=True))
    data = {"a.mtx": (MM + f"5 5 {len(rows)}\n{lines}").encode(), "a.txt": lines.encode(),
            "a.tsv": lines.encode(), "a.npy": npy(w), "a.npz": saved(sparse.csr_array(w)),
            "b.npz": saved(sparse.coo_array(w), compressed=False)}[name]
    codes = {survives(tmp_path / name, made, source=source)
             for made in mutants(data, count, count)}
    assert "E801" in codes and (name[-3:] == "npz" or None in codes)


def test_a_million_edges_take_seconds_and_little_memory():
    """Speed and memory are measured by tests/bench; here, that no step is done edge by edge."""
    n, edges = 500, 50_000
    rng = np.random.default_rng(0)
    place = np.unique(rng.integers(0, n * n, 2 * edges))
    rows, columns = place // n, place % n
    above = rows < columns
    w = sparse.csr_array((rng.normal(size=above.sum()), (rows[above], columns[above])), (n, n))
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(event) if event == "call" else None)
    try:
        graph = graph_of(saved(w, compressed=False), "scipy")
    finally:
        sys.setprofile(None)
    assert graph.n_edges == w.nnz > 20_000 and len(calls) < 10_000

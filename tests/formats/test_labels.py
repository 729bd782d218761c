"""`label`, `numerics` and `dtype` of net files: read, written, passed on, and what obeys them."""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ncc
from ncc.cli import main
from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import USUAL, Settings, options
from ncc.errors import NccError, Source
from ncc.formats.write import net_file
from ncc.ir import graph_text
from ncc.ir.graph import Label
from ncc.ir.labels import Names, covering
from ncc.machine.llvm import host

NAL = """N 06
label 00 left-eye     % of a person
label 01 "50% \\"off\\" # é"
numerics strict
00
01
02 tanh sumbias 00:0.1,01:0.3 +0.7
label 02 hidden 2x1
dtype f64
03 relu maximum 00:1,02:-1
04 0 02:0.5,03:0.25
05 tanh 02:0.5,03:0.25
label 04 y 2          # all outputs
"""
LABELS = (Label(0, "left-eye"), Label(1, '50% "off" # é'), Label(2, "hidden", (2, 1)),
          Label(4, "y", (2,)))
X = np.array([[0.3, -1.7], [2.0, 0.9]])


def test_files_say_labels_numerics_and_dtype() -> None:
    graph = ncc.parse(NAL).graph
    assert (graph.labels, graph.numerics, graph.dtype) == (LABELS, "strict", "f64")
    assert (ncc.parse("N 02\n00\n01 03 00:1").graph.labels,
            ncc.parse("N 02\n00\n01 03 00:1").graph.dtype) == ((), None)


@pytest.mark.parametrize("ending", ["nal", "nel", "graph"])
def test_writers_keep_them(ending: str) -> None:
    graph = ncc.parse(NAL).graph
    text = net_file(graph, ending)
    again = ncc.parse(text, ending).graph
    assert (again.labels, again.numerics, again.dtype) == (LABELS, "strict", "f64")
    assert str(again) == str(graph) and net_file(again, ending) == text


def test_a_matrix_has_none_of_them(tmp_path, capsys) -> None:
    graph = ncc.parse("N 03\nlabel 00 eye\ndtype f64\n00\n01\n02 0 00,01\n").graph
    with pytest.raises(NccError, match="express: labels, numerics and dtype") as caught:
        net_file(graph, "nam")
    assert caught.value.code == "E401"
    assert net_file(graph, "nam", lossy=True) == "001\n001\n000\n"


@given(st.lists(st.tuples(
    st.integers(0, 5), st.text("aZ09_.:/+-x \"'\\%#{}é漢🜁\u0301", min_size=1, max_size=9),
    st.sampled_from([(), (1,), (1, 1)])), max_size=5,
    unique_by=lambda label: label[1]))
def test_any_printable_name_reads_back(given: list[tuple[int, str, tuple[int, ...]]]) -> None:
    labels = tuple(Label(*label) for label in given)
    graph = ncc.parse(NAL).graph.with_(labels=labels)
    graph.verify()
    for ending in ("nal", "nel", "graph"):
        text = net_file(graph, ending)
        assert ncc.parse(text, ending).graph.labels == labels
    assert graph_text.read(Source("g", str(graph))).labels == labels


def test_labels_stay_where_neurons_are(capsys, tmp_path) -> None:
    (tmp_path / "n.nal").write_text(NAL.replace("label 04 y 2", "label 05 gone\nout 04"))
    for kind, word in (("graph", "\nlabel 05 gone"), ("plan", "\nlabel 02 hidden 2x1"),
                       ("ast", "\nlabel 00 left-eye")):
        assert main(["build", str(tmp_path / "n.nal"), "--emit", kind, "--passes",
                     "resolve,order,merge,prune,embed,group,place"]) in (0, None)
        assert word in capsys.readouterr().out
    plan = tmp_path / "n.plan"
    assert main(["build", str(tmp_path / "n.nal"), "--emit", "plan", "-o", str(plan)]) == 0
    assert main(["build", str(plan), "--emit", "plan", "-o", str(tmp_path / "m.plan")]) == 0
    assert plan.read_text() == (tmp_path / "m.plan").read_text()


def test_the_net_of_python_has_arrays_of_neurons() -> None:
    net = ncc.parse(NAL)
    found = net.labels
    assert found["left-eye"] == 0 and found["y"].tolist() == [4, 5]
    assert found["hidden"].tolist() == [[2], [3]] and not found["hidden"].flags.writeable


def test_a_pickle_keeps_them_and_names_no_room() -> None:
    data = pickle.dumps(ncc.parse(NAL))
    assert pickle.loads(data).graph.labels == LABELS and b"ncc.ir" not in data


def test_names_of_single_neurons() -> None:
    names = Names([Label(2, "conv", (2, 3)), Label(3, "own"), Label(4, "part", (2,)),
                   Label(0, "all", (9,))])
    assert [names.of(j) for j in range(9)] == [
        "all[0]", "all[1]", "conv[0,0]", "own", "part[0]", "part[1]", "conv[1,1]", "conv[1,2]",
        "all[8]"]
    assert names.of(9) == ""


def test_which_labels_cover_neurons_in_a_row() -> None:
    labels = [Label(4, "a", (2,)), Label(5, "b"), Label(2, "c", (3,)), Label(7, "d", (2,)),
              Label(9, "e")]
    found = covering(labels, np.array([4, 5, 7, 9, 8, 2], np.int32), 10)
    assert [(at, label.name) for at, label in found] == [(0, "a"), (1, "b"), (3, "e")]


def test_headers_pictures_and_explanations_name_neurons(tmp_path, capsys) -> None:
    (tmp_path / "n.nal").write_text(NAL)
    made = {}
    for kind in ("header", "c", "dot"):
        assert main(["build", str(tmp_path / "n.nal"), "--emit", kind]) == 0
        made[kind] = capsys.readouterr().out
    for kind in ("header", "c"):
        assert (' * Inputs, x[k]:   n00 n01\n *     x[0]: left-eye\n'
                ' *     x[1]: 50% "off" # ?\n * Outputs, y[k]:  n04 n05\n'
                ' *     y[0..1]: y 2\n') in made[kind]
    assert '[label="n00\\nleft-eye", ' in made["dot"]
    assert '[label="n01\\n50% \\"off\\" # é", ' in made["dot"]
    assert "\\nhidden[1,0]\\nrelu maximum" in made["dot"]
    assert main(["build", str(tmp_path / "n.nal"), "--emit", "ssa", "--explain", "-o",
                 str(tmp_path / "n.ssa")]) == 0
    assert "2 edges: hidden 2x1\n" in capsys.readouterr().err
    # The labels of another file are not those of the header in the cache.
    (tmp_path / "n.nal").write_text(NAL.replace("left-eye", "ear"))
    assert main(["build", str(tmp_path / "n.nal"), "--emit", "header"]) == 0
    assert "x[0]: ear\n" in capsys.readouterr().out


def test_a_header_lists_some_labels_and_says_how_many_more() -> None:
    text = "N 41\n" + "".join(f"label {j:02x} in{j}\n{j:02x}\n" for j in range(64))
    net = ncc.parse(text + "40 0 " + ",".join(f"{j:02x}:1" for j in range(64)))
    header = Build(net.graph, host(), options(host()), along=AFTER_ORDER).header(compiled=False)
    assert header.count("]: in") == 48 and " and 16 more labels\n" in header


# ---- who obeys numerics and dtype


def test_said_goes_before_asked_for() -> None:
    graph = ncc.parse(NAL).graph
    assert vars(USUAL.of(graph)) | {"passes": {}} == vars(Settings("f64", "strict"))
    assert vars(Settings("f32", "fused").of(graph)) == vars(Settings("f32", "fused"))
    other = ncc.parse("N 02\n00\n01 03 00:1").graph
    assert (USUAL.of(other).dtype, USUAL.of(other).numerics) == ("f32", None)


def test_python_obeys_the_file() -> None:
    net = ncc.parse(NAL)
    fn = ncc.compile(net, cache=False, tier="now")
    assert (fn.dtype, fn.numerics) == ("f64", "strict")
    y = net.graph.run(X, dtype="f64", numerics="strict")
    assert fn(X).tobytes() == y.tobytes()
    other = ncc.compile(net, dtype="f32", numerics=options(host())["numerics"], tier="now")
    assert (other.dtype, other.numerics) == ("f32", options(host())["numerics"])
    trained, _ = ncc.fit(net, X, np.ones((2, 2)), epochs=1)
    assert (trained.dtype, trained.numerics) == ("f64", "strict")
    assert ncc.fit(net, X, np.ones((2, 2)), epochs=1, dtype="f32")[0].dtype == "f32"
    trainer = ncc.Trainer(net, cache=False)
    assert trainer.compiled().dtype == "f64" and trainer.compiled().numerics == "strict"
    many = ncc.population([net, net])
    assert (many.dtype, many.numerics) == ("f64", "strict")
    assert many(X)[0].tobytes() == y.tobytes()
    assert ncc.population([net], dtype="f32").dtype == "f32"


def test_a_population_of_different_wishes_wants_a_word() -> None:
    nets = [ncc.parse(NAL), ncc.parse(NAL.replace("dtype f64\n", ""))]
    with pytest.raises(NccError, match="net 0 asks for f64, net 1 for no dtype") as caught:
        ncc.population(nets)
    assert caught.value.code == "E650"
    assert ncc.population(nets, dtype="f32").numerics == "strict"


def test_torch_obeys_the_file() -> None:
    torch = pytest.importorskip("ncc.torch")
    module = torch.module(ncc.parse(NAL))
    assert (module.code.dtype, module.code.numerics) == ("f64", "strict")


@pytest.mark.slow
def test_sklearn_obeys_the_file() -> None:
    learn = pytest.importorskip("ncc.sklearn")
    net = ncc.parse(NAL.replace("sumbias ", ""))
    made = learn.NetRegressor(net, epochs=1).fit(X, np.ones((2, 2)))
    assert made.compiled_.dtype == "f64" and made.compiled_.numerics == "strict"


def test_commands_obey_the_file(tmp_path, capsys) -> None:
    net, x = tmp_path / "n.nal", tmp_path / "x.csv"
    net.write_text(NAL)
    np.savetxt(x, X, delimiter=",")
    graph = ncc.parse(NAL).graph
    plan = tmp_path / "n.plan"
    assert main(["build", str(net), "--emit", "plan", "-o", str(plan)]) == 0
    for path in (net, plan):
        for words, dtype, numerics in (([], "f64", "strict"), (["--dtype", "f32"], "f32", "strict"),
                                       (["--form", "table", "--check"], "f64", "strict")):
            capsys.readouterr()
            if path == plan and "--form" in words:
                continue
            assert main(["run", str(path), "--input", str(x), *words]) == 0
            shown = np.array([[float(word) for word in line.split(",")] for line in
                              capsys.readouterr().out.split()])
            y = graph.run(X, dtype=dtype, numerics=numerics)
            assert np.array_equal(shown.astype(y.dtype), y)
    assert main(["build", str(net), "--emit", "ssa"]) == 0
    assert "\nmodule n f64 strict\n" in "\n" + capsys.readouterr().out
    out = tmp_path / "w.npy"
    np.savetxt(tmp_path / "t.csv", np.ones((2, 2)), delimiter=",")
    given = ["--data", str(x), "--target", str(tmp_path / "t.csv")]
    assert main(["train", str(net), *given, "--epochs", "1", "-o", str(out), "--quiet"]) == 0
    assert np.load(out).dtype == np.float64
    capsys.readouterr()
    assert main(["bench", str(net), "--peers", "none", "--seconds", "0.01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "f64"


def test_a_target_without_the_numerics_is_refused_as_for_the_option(tmp_path, capsys) -> None:
    net = tmp_path / "n.nal"
    words = ["build", str(net), "--target", "cortex-m0", "--emit", "c"]
    net.write_text("N 02\n00\n01 03 00:1\n")
    assert main([*words, "--numerics", "fused"]) == 2
    of_option = capsys.readouterr().err
    net.write_text("N 02\nnumerics fused\n00\n01 03 00:1\n")
    assert main(words) == 2
    assert capsys.readouterr().err == of_option and "E603" in of_option
    assert main([*words, "--numerics", "strict"]) == 0


def test_a_hundred_thousand_labels_take_linear_work(tmp_path) -> None:
    """As many calls a label, whatever their number: counted, not timed."""
    def calls(count: int) -> int:
        lines = [f"label {j:05x} n{j}" for j in range(count)]
        text = "\n".join([f"N {count + 1:x}", *lines, *[f"{j:x}" for j in range(count)],
                          f"{count:x} 0 00:1,01:1"])
        net = ncc.parse(text)
        assert len(net.graph.labels) == count
        made = 0

        def seen(frame, event, arg):
            nonlocal made
            made += 1

        sys.setprofile(seen)
        try:
            again = ncc.parse(net_file(net.graph, "graph"), "graph")
            again.graph.verify()
            covering(again.graph.labels, again.graph.inputs, again.n_neurons)
            names = Names(again.graph.labels)
            assert names.of(count - 1) == f"n{count - 1}" and len(net.labels) == count
        finally:
            sys.setprofile(None)
        return made

    few, many = calls(1_000), calls(8_000)
    assert many < 8.5 * few

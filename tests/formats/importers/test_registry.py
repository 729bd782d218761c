"""Which importer a file is for, what is said where none is, and foreign files as nets."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.cli import main
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Options
from ncc.formats.importers.registry import BY_NAME, IMPORTERS

NODES = [(0, "tanh", 0.5, [(-1, 1.5), (3, -2.0)]), (3, "relu", -0.25, [(-1, 1.0), (-2, 0.75)])]


def exported(nodes=NODES, **changes):
    """A JSON file such as neat-python writes."""
    named = dict(custom=False)
    return json.dumps({
        "format_version": "1.0", "network_type": "feedforward", "metadata": {},
        "topology": {"input_keys": [-1, -2], "output_keys": [0]},
        "nodes": [{"id": key, "type": "hidden", "activation": {"name": act, **named},
                   "aggregation": {"name": "sum", **named}, "bias": bias, "response": 1.0}
                  for key, act, bias, _ in nodes],
        "connections": [{"from": source, "to": key, "weight": weight, "enabled": True}
                        for key, _, _, edges in nodes for source, weight in edges]} | changes)


@pytest.fixture
def champion(tmp_path):
    path = tmp_path / "champion.json"
    path.write_text(exported())
    return path


def test_a_foreign_file_is_imported_and_stands_where_a_net_may_stand(champion, tmp_path, capsys):
    out = tmp_path / "net.graph"
    assert main(["import", str(champion), "-o", str(out)]) == 0
    assert "2 inputs, 1 outputs; strict f64; class B" in capsys.readouterr().err
    direct, kept = ncc.load(champion), ncc.load(out)
    x = np.random.default_rng(0).normal(size=(50, 2))
    hidden = np.maximum(-0.25 + (x[:, 0] + x[:, 1] * 0.75), 0)
    expected = np.tanh(np.clip(2.5 * (0.5 + (x[:, 0] * 1.5 + hidden * -2.0)), -60, 60))
    for net in (direct, kept):
        y = net.graph.run(x, dtype="f64", numerics="strict")[:, 0]
        np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-15)
    samples = tmp_path / "x.csv"
    np.savetxt(samples, x, delimiter=",")
    for arguments in (["check"], ["run", "--dtype", "f64", "--input", str(samples)],
                      ["build", "--emit", "graph"]):
        assert main([arguments[0], str(champion), *arguments[1:]]) == 0


def test_a_cycle_is_told_by_the_names_of_the_source(tmp_path, capsys):
    path = tmp_path / "loop.json"
    path.write_text(exported([*NODES, (7, "sin", 0.0, [(9, 1.0)]), (9, "sin", 0.0, [(7, 1.0)])]))
    with pytest.raises(ncc.NccError, match="7 -> .*9 -> ") as caught:
        ncc.load(path)
    assert caught.value.code == "E812"
    assert main(["check", str(path)]) == 1
    assert "error[E812]: a cycle" in capsys.readouterr().err


def test_what_nobody_knows_is_E800(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ncc.NccError, match="no importer knows this file") as caught:
        ncc.load(path)
    assert caught.value.code == "E800"
    with pytest.raises(ncc.NccError, match="no importer is called"):
        ncc.load(path, source="nobody")
    with pytest.raises(ncc.NccError, match="no importer knows an object of builtins.dict"):
        ncc.load({})


def test_source_reads_a_file_of_any_ending(champion, tmp_path):
    other = champion.rename(tmp_path / "champion.dat")
    assert ncc.load(other, source="neat").n_neurons == ncc.load(other, source="neat").n_neurons > 2
    with pytest.raises(ncc.NccError, match="--source is for files of other tools"):
        raise_from(["check", str(other), "--source", "neat", "--format", "nal"])


def raise_from(words):
    from ncc.cli import parser
    from ncc.cli.arguments import parse
    from ncc.driver.observe import Watcher
    args = parse(parser(), words)
    args.call(args, Watcher())


def test_an_option_that_a_format_does_not_take_is_refused(champion, capsys):
    assert main(["check", str(champion), "--weight-bias", "1"]) == 2
    assert "--weight-bias: a network that neat-python exported" in capsys.readouterr().err


@pytest.mark.parametrize("importer", [i for i in IMPORTERS if not i.layers], ids=lambda i: i.name)
def test_a_second_file_of_a_format_of_whole_nets_is_refused(importer, champion, tmp_path, capsys):
    out = tmp_path / "net.nal"
    assert main(["import", str(champion), str(champion), "--source", importer.name,
                 "-o", str(out)]) == 2
    assert "E609" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("words", ["nonsense", "f=", "=x"])
def test_a_malformed_formula_is_refused_though_no_neuron_wants_it(words, champion, capsys):
    assert main(["check", str(champion), "--fn", words]) == 2
    assert "--fn" in capsys.readouterr().err


@pytest.mark.parametrize("text, code, place", [
    ("[1", "E801", "this is no JSON"), ("{" * 2, "E801", "no JSON"),
    ("[" * 100_000, "E801", "nested too deep"),
    ('{"network_type": 1, "network_type": 2}', "E801", "stands twice"),
    (exported().replace("1.5", "NaN"), "E801", "NaN is not a number"),
    (exported().replace("1.5", "1e999"), "E801", "/connections/0/weight: "),
    (exported().replace("1.5", "9" * 5000), "E801", "no JSON"),
    (exported(format_version="2.0"), "E802", "/format_version: "),
    (exported().replace('"from": 3', '"from": 4'), "E801", "/connections/1/from: "),
    ("\ud800".encode("utf-8", "surrogatepass") + b'"network_type"', "E801", "is not UTF-8"),
])
def test_malformed_json_is_told_with_its_place(tmp_path, text, code, place):
    path = tmp_path / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(path, source="neat")
    assert caught.value.code == code and place in str(caught.value)


def test_a_net_beyond_the_limit_is_E819(champion):
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(champion, max_edges=3)
    assert caught.value.code == "E819" and caught.value.status == 4


def test_every_importer_has_a_name_an_ending_and_a_title():
    assert len(BY_NAME) == len(IMPORTERS)
    for importer in IMPORTERS:
        assert importer.endings and all(e.startswith(".") for e in importer.endings)
        assert importer.title[0].islower() or importer.title[0].isupper()


def test_the_guide_has_a_row_for_every_importer_and_option():
    options = {option.name for option in fields(Options) if option.metadata}
    options |= {"outputs", "activation"}  # which nets of ncc's have, too
    guide = Path(registry.__file__).with_name("README.md").read_text()
    for importer in IMPORTERS:
        row = next(line for line in guide.splitlines() if line.startswith(f"| `{importer.name}` "))
        flags = {f"`--{word.replace('_', '-')}`" for word in importer.takes if word in options}
        assert {*re.findall("`--[a-z-]+`", row)} == flags
        assert {*re.findall(r"`(\.[a-z0-9.]+)`", row)} == set(importer.endings)
    assert all(f"`--{option.replace('_', '-')}" in guide for option in options)

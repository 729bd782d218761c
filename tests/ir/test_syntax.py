"""The syntax level: each rule of its verifier broken once, and nets that keep them all."""

from __future__ import annotations

import pytest
from hypothesis import given
from nets import nets, to_nal
from reference import Net

from ncc.errors import NccError, Source
from ncc.formats.read import net
from ncc.ir.syntax_verify import in_lists, verify
from ncc.passes.graph.resolve import resolve

SOUND = "N 04~fn 20 x^2~out 03~00~01~02 20 00@k:1,01 +@k~03 relu mul 02:2,00:=1"
EDGES = "N 04~act 02-03 tanh~bias 03 +1~agg 02 mul~00 02~01 02~02 03"

BROKEN = [  # format, old, new, the code of the rule that is broken then
    ("nal", "fn 20", "fn 1f", "E126"),
    ("nal", "out", "fn 20 x~out", "E127"),
    ("nal", "x^2", "foo(x)", "E201"),
    ("nal", "N 04", "N 05", "E111"),
    ("nal", "N 04", "N 03", "E110"),
    ("nal", "01~02", "00~02", "E112"),
    ("nal", "02:2", "07:2", "E110"),
    ("nal", "relu", "rellu", "E118"),
    ("nal", "relu mul 02:2,00:=1", "relu", "E121"),
    ("nal", "relu mul 02:2,00:=1", "relu mul +1", "E122"),
    ("nal", "00:=1", "03:=1", "E114"),
    ("nal", "00:=1", "02:=1", "E115"),
    ("nal", "+@k", "+@k:2", "E125"),
    ("nal", "out 03", "out 03,03", "E129"),
    ("nal", "out 03", "out 04", "E130"),
    ("nel", "N 04", "N 7ffffff", "E117"),
    ("nel", "02-03", "03-02", "E136"),
    ("nel", "02-03", "01-03", "E121"),
    ("nel", "bias 03 +1", "bias 03 +1~bias 03 +2", "E123"),
    ("nel", "agg 02 mul", "agg 02 mul~agg 02 max", "E124"),
    ("nel", "agg 02 mul", "agg 00 mul", "E122"),
    ("nel", "02 03", "04 03", "E110"),
    ("nam", "01", "10", "E114"),
    ("nam", "1", "0", "E131"),
]


@pytest.mark.parametrize(("format", "old", "new", "code"), BROKEN)
def test_each_rule_has_a_file_that_breaks_it(format: str, old: str, new: str, code: str) -> None:
    text = {"nal": SOUND, "nel": EDGES, "nam": "01~00"}[format]
    verify(net(Source("net", text.replace("~", "\n") + "\n"), format))
    broken = net(Source("net", text.replace(old, new, 1).replace("~", "\n") + "\n"), format)
    with pytest.raises(NccError) as caught:
        verify(broken)
    assert caught.value.code == code and caught.value.line, str(caught.value)
    with pytest.raises(NccError) as again:
        resolve(broken)
    assert str(again.value) == str(caught.value)


@given(nets())
def test_nets_keep_the_rules(net_: Net) -> None:
    syntax = net(Source("net", to_nal(net_)), "nal")
    verify(syntax)
    assert in_lists(syntax).n_neurons == resolve(syntax).n_neurons


def test_outputs_of_the_caller_take_the_place_of_the_files() -> None:
    syntax = net(Source("net", "N 02\nout 07\n00\n01 relu 00\n"), "nal")
    with pytest.raises(NccError, match="E130"):
        verify(syntax)
    assert resolve(syntax, outputs="01").outputs.tolist() == [1]

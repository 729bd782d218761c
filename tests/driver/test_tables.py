"""Tables of levels, formats and kinds agree with the pipeline; settings, and what they become."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from ncc.driver.kinds import KINDS, SAVED, ending, kind_of, with_gradient
from ncc.driver.levels import FORMATS, LEVELS, NAMES, NETS, format_of, rank, row
from ncc.driver.pipeline import PIPELINE, arrives, departs, taken
from ncc.driver.settings import Derived, Settings, derive, options
from ncc.errors import NccError, Source
from ncc.formats.write import NETS as WRITTEN
from ncc.machine.targets import TARGETS

TEXTS = {"nal": "N 02\n00\n01 relu 00:2\n", "nel": "N 02\nact 01 relu\n00 01 2\n",
         "nam": "00\n10\n"}


def test_each_pass_joins_two_rows_of_the_levels():
    """In their order: no pass leads back."""
    for call in PIPELINE:
        assert rank(departs(call)) <= rank(arrives(call)) <= rank(departs(call)) + 1
    reached = {rank(arrives(call)) for call in PIPELINE} | {rank(departs(PIPELINE[0]))}
    assert sorted(reached) == list(range(len(LEVELS)))


def test_each_level_has_a_kind_of_its_own():
    assert len(set(NAMES)) == len(LEVELS)
    for level in LEVELS:
        assert KINDS[level.kind].level == level.name
        assert level.evaluator is not None or level.name in ("syntax", "llvm")


def test_what_a_net_is_read_from_and_written_as():
    assert set(NETS) == set(WRITTEN) < set(FORMATS)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_read_into_the_type_that_its_row_says(name):
    comment = f"{FORMATS[name].comment} a comment\n"
    level = FORMATS[name].read(Source("<text>", comment + TEXTS[name]))
    assert type(level) is FORMATS[name].type
    assert format_of(level) is FORMATS[name] and row(level).name == "syntax"


def test_no_two_kinds_have_one_ending():
    assert len({ending(kind) for kind in KINDS}) == len(KINDS)
    for kind, made in KINDS.items():
        assert made.level in NAMES
        if made.make is not None:
            assert kind_of(Path(f"net.{ending(kind)}")) == kind
    assert set(SAVED) - {ending(kind) for kind in KINDS} == {"nal", "nel", "nam"}
    assert not with_gradient("nal") and with_gradient("obj")
    with pytest.raises(NccError, match="unknown file extension"):
        kind_of(Path("net.ast"))


def test_what_a_target_derives_reaches_passes_by_name():
    """Each is an option of some pass, but for what only engines have."""
    known = {name for call in PIPELINE for name in taken(call)} | {"lanes_data"}
    assert {f.name for f in fields(Derived)} <= known
    assert all(f.name in str(Derived.__doc__) for f in fields(Derived) if f.name != "dtype")


@pytest.mark.parametrize("target, dtype, numerics, expected", [
    ("x86-64-v3", "f32", None, dict(numerics="fused", native=8, lanes=16, registers=16,
                                    far_lanes=0, alone_lanes=32, block=8)),
    ("x86-64-v4", "f64", "strict", dict(numerics="strict", native=8, lanes=16, registers=32,
                                        far_lanes=32, alone_lanes=0)),
    ("cortex-m0", "f32", "fast", dict(numerics="strict", native=1, lanes=1, small=True, block=1,
                                      lanes_data=1, far_lanes=0, alone_lanes=0,
                                      balanced=False)),
    ("cortex-m4f", "f32", None, dict(numerics="fused", small=True, balanced=True)),
    ("cortex-m4f", "f64", None, dict(numerics="strict", small=True, balanced=False)),
])
def test_what_a_target_makes_of_settings(target, dtype, numerics, expected):
    found = vars(derive(TARGETS[target], dtype, numerics))
    assert {name: found[name] for name in expected} == expected


def test_options_of_passes_go_before_what_is_derived_and_more_before_both():
    aim = TARGETS["x86-64-v3"]
    asked = Settings("float64", passes={"lanes": 12, "form": "table"})
    found = asked.options(aim, form="straight", name="xor")
    assert (found["dtype"], found["lanes"], found["form"], found["name"]) == (
        "f64", 12, "straight", "xor")
    assert found["alone_lanes"] == 0  # lanes that were asked for are the same in every loop
    assert options(aim) == {**vars(derive(aim, "f32")), "name": "net"}


def test_what_no_target_does():
    with pytest.raises(NccError, match="no f32 fused multiply-add"):
        derive(TARGETS["cortex-m0"], "f32", "fused")
    with pytest.raises(NccError, match="no numerics loose"):
        Settings(numerics="loose").options(TARGETS["x86-64-v3"])

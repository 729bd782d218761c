"""The table of errors: every code that the sources say, the guide's table made of it, no status
that a raise repeats. `pytest --bless` writes the guide's table."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ncc.errors import ERRORS, NccError

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "grammar/README.md"
HEAD = "| code | status | what is wrong |\n|---|---|---|\n"
FILES = sorted(path for folder in ("ncc", "passes") for path in (ROOT / folder).rglob("*.py")
               if "__pycache__" not in path.parts)


def test_the_guide_shows_the_table(request: pytest.FixtureRequest) -> None:
    rows = [f"| {code} | {fault.status} | {fault.title} |\n" for code, fault in ERRORS.items()]
    text = GUIDE.read_text()
    if request.config.getoption("--bless"):
        text = re.sub(r"\| code \|.*\n.*\n(?:\| E\d.*\n)+", lambda _: HEAD + "".join(rows), text)
        GUIDE.write_text(text)
    shown = text.partition(HEAD)[2].partition("\n\n")[0].rstrip() + "\n"
    assert shown == "".join(rows)


def test_codes_ascend_and_statuses_are_of_the_contract() -> None:
    assert list(ERRORS) == sorted(ERRORS)
    assert all(re.fullmatch(r"E\d{3}", code) for code in ERRORS)
    assert {fault.status for fault in ERRORS.values()} == {1, 2, 3, 4, 5, 70}


def test_the_sources_say_every_code_and_no_other() -> None:
    said = {code for path in FILES if path.name != "errors.py"
            for code in re.findall(r"\bE\d{3}\b", path.read_text())}
    assert said == set(ERRORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_raise_repeats_the_status_of_its_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "NccError":
            code, *_ = [*map(ast.unparse, node.args), ""]
            for status in (k.value for k in node.keywords if k.arg == "status"):
                if isinstance(status, ast.Constant) and code.strip("'") in ERRORS:
                    assert status.value != ERRORS[code.strip("'")].status, f"line {node.lineno}"


def test_an_error_has_the_status_of_its_code_or_its_own() -> None:
    assert NccError("E610", "m").status == 2 and NccError("E142", "m", status=2).status == 2
    with pytest.raises(KeyError):
        NccError("E999", "a code that the table has not")

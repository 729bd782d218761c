"""The page as one file of HTML, which asks nothing of anybody.

What it shows as text comes from `data`, packed, and goes into the page as text; what stands in the
markup itself is escaped. Its policy (Content-Security-Policy) lets this one script run and nothing
else, and allows no request; while `ncc view` serves it, to its server alone.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from ncc.report.svg import escaped

SCRIPT = "<script type=\"module\">", "</script>"


def page(title: str, about: str, svg: str, data: Mapping[str, Any], module: bytes, runtime: str,
         view: str = "") -> str:
    """The page of a net.

    svg      its picture
    data     what the script reads (ncc/report/page/page.html): JSON
    module   of WebAssembly: the net; empty where `data` says why there is none
    runtime  JavaScript that runs it
    view     the version of the page, where `ncc view` serves it
    """
    text = files("ncc.report.page").joinpath("page.html").read_text(encoding="utf-8")
    head, begin, rest = text.partition(SCRIPT[0])
    script, end, tail = rest.partition(SCRIPT[1])
    script = script.replace("{{net}}", runtime.replace("\nexport ", "\n"))
    whole = json.dumps({**data, "view": view}, separators=(",", ":"), allow_nan=False)
    parts = {"csp": policy(script, bool(view)), "title": escaped(title), "about": escaped(about),
             "svg": svg, "data": packed(whole.encode()), "wasm": packed(module)}
    pieces = head.split("{{")
    made = [pieces[0]]
    for piece in pieces[1:]:  # one pass, so that what is filled in is not looked at again
        name, _, after = piece.partition("}}")
        made += [parts[name], after]
    return "".join([*made, begin, script, end, tail])


def packed(data: bytes) -> str:
    """Bytes as text of a page: the same for the same bytes."""
    return b64encode(gzip.compress(data, 9, mtime=0)).decode()


def policy(script: str, view: bool) -> str:
    """The policy of a page with this script."""
    digest = b64encode(sha256(script.encode()).digest()).decode()
    rules = ["default-src 'none'", f"script-src 'sha256-{digest}' 'wasm-unsafe-eval'",
             "style-src 'unsafe-inline'", "img-src data:", "base-uri 'none'", "form-action 'none'"]
    return "; ".join([*rules, "connect-src 'self'"] if view else rules)

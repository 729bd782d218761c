"""The page of a net: all of it is in the file, nothing in it comes from elsewhere or is markup."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser

import ncc
from ncc.cli import main, parser, view
from ncc.cli.arguments import parse
from ncc.errors import NccError, Source
from ncc.report.page.curve import curve

TOP = Path(__file__).parents[2]
XOR, DIGITS = TOP / "examples/xor.nal", TOP / "examples/digits.nal"
HOSTILE = "</script><img src=x onerror=document.title='bad'>{{data}}"
CELL = f"""N 05
out 03,04
label 00 "{HOSTILE}"
label 01 left-eye
00
01 identity 00:0.25,~01:0.75
02 tanh 01:2,~00:-1
03 relu 02:1,~03:1 +0.5
04 identity 02:1,~02:-0.5
"""


class Markup(HTMLParser):
    """The elements of a page with their attributes, and the text of each kind of them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements:
            self.texts.setdefault(self.elements[-1][0], []).append(data)


def block(page, name):
    """A packed block of data of a page."""
    return gzip.decompress(b64decode(re.search(rf'id="{name}">([^<]*)</script>', page)[1]))


def written(tmp_path, net, *options, name="net.nal"):
    path = net
    if not isinstance(net, Path):
        path = tmp_path / name
        path.write_text(net)
    out = tmp_path / "page.html"
    assert main(["report", str(path), "-o", str(out), *options]) == 0
    return out


def checked(page):
    """A page, and that it loads nothing and lets but its own script run."""
    made = Markup(page)
    assert {tag for tag, _ in made.elements} <= {
        "html", "head", "meta", "link", "title", "style", "body", "header", "h1", "h2", "p", "div",
        "main", "section", "aside", "span", "button", "input", "table", "canvas", "kbd", "script",
        "label", "noscript", "svg", "desc", "g", "path", "rect", "circle", "text"}
    for tag, attrs in made.elements:
        assert not {"src", "srcset", "action", "ping"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("href", "data:,") == "data:,", tag
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<]*", page) == [
        "http://www.w3.org/2000/svg"] * 2
    policy = next(a["content"] for t, a in made.elements
                  if a.get("http-equiv") == "Content-Security-Policy")
    scripts = [a.get("type") for t, a in made.elements if t == "script"]
    assert scripts == ["application/octet-stream"] * 2 + ["module"]
    script = page.split('<script type="module">')[1].split("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; script-src 'sha256-" + digest)
    return made


def test_the_page_of_digits_is_one_small_file(tmp_path, capfd):
    out = written(tmp_path, DIGITS, "--input", str(TOP / "examples/digits.csv"))
    page = out.read_text()
    assert f"{out}: {len(page.encode()):,} bytes" in capfd.readouterr().err
    checked(page)
    assert len(page.encode()) <= 1_000_000
    about = json.loads(block(page, "data"))
    net = ncc.load(DIGITS)
    assert about["count"] == 122 and sum(about["edges"]["counts"]) == 2720
    assert about["edges"]["weights"] == net.graph.values[net.graph.weights].tolist()
    assert [each[0][0] for each in about["nodes"]] == about["shown"] == list(range(122))
    assert len(about["samples"]) == 360 and about["pad"] == 8 and about["why"] == ""
    assert block(page, "wasm")[:4] == b"\0asm"
    kinds = [each["name"] for each in about["listings"]]
    assert kinds[0] == "ast" and kinds[-3:] == ["llvm", "asm", "c"]
    assert {"graph", "plan", "ssa"} <= set(kinds)
    for each in about["listings"]:
        assert len(each["text"].split("\n")) == len(each["neurons"])
    card, functions = about["cost"]
    assert ["multiply-adds of a sample", "2,720"] in card["rows"]
    assert [row[0] for row in functions["rows"]] == [
        "function", "pack", "forward", "forward_batch"]
    graph = next(each for each in about["listings"] if each["name"] == "graph")
    at = graph["neurons"].index(0x50)
    assert graph["text"].split("\n")[at].startswith("50 @1 relu")


def test_where_the_page_goes(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("net.nal").write_text("N 02\n00\n01 tanh 00:2\n")
    Path("out").mkdir()
    assert main(["report", "net.nal"]) == main(["report", "net.nal", "-o", "out"]) == 0
    page = Path("net.html").read_bytes()
    assert Path("out/net.html").read_bytes() == page
    capfd.readouterr()
    assert main(["report", "net.nal", "-o", "-"]) == 0
    assert capfd.readouterr().out.encode() == page
    assert main(["report", "net.nal", "-o", "net.nal"]) == 2
    assert "E608" in capfd.readouterr().err


def test_labels_are_no_markup(tmp_path):
    page = written(tmp_path, CELL, name="a&b<i>.nal").read_text()
    made = checked(page)
    assert made.texts["title"][0] == made.texts["h1"][0] == "a&b<i>.nal"
    about = json.loads(block(page, "data"))
    assert about["names"] == {"0": HOSTILE, "1": "left-eye"} and about["states"] == [0, 1, 2, 3]


def test_what_a_net_is_too_large_for_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("ncc.driver.report.LIVE", 1000)
    monkeypatch.setattr("ncc.report.page.facts.EDGES", 1000)
    monkeypatch.setattr("ncc.driver.report.TEXT", 5000)
    monkeypatch.setattr("ncc.report.picture.NODES", 20)
    net = ncc.load([np.ones((30, 20)), np.ones((20, 30))], activation="relu")
    net.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    about = json.loads(block(page, "data"))
    assert len(page) < 1_000_000 and about["edges"] is None
    assert about["why"] == "a net of more than 1,000 edges does not run in its page"
    assert about["nodes"] == [[[0, 30]], [[30, 20]], [[50, 30]]]
    assert "more lines: ncc build --emit graph" in about["listings"][0]["text"]


def test_parameters_without_values(tmp_path, capfd):
    about = json.loads(block(written(tmp_path, "N 02\n00\n01 tanh 00\n").read_text(), "data"))
    assert "E607" in about["why"] and about["edges"]["weights"] == [None]
    about = json.loads(block(written(
        tmp_path, "N 02\n00\n01 tanh 00\n", "--init", "shared:2").read_text(), "data"))
    assert about["why"] == "" and about["edges"]["weights"] == [2.0]
    assert main(["report", str(tmp_path / "x.ssa"), "-o", str(tmp_path / "y.html")]) == 2
    assert "E604" in capfd.readouterr().err


def test_learning_curves(tmp_path):
    text = "# classes a,b\nepoch,loss,validation\n1,0.5,0.75\n2,0.25,\n"
    assert curve(Source("c", text)) == {
        "epoch": [1.0, 2.0], "loss": [0.5, 0.25], "validation": [0.75, None]}
    for wrong in ("", "epoch,loss,validation\n", "1,2,3\n", "epoch,loss,validation\n1,2\n",
                  "epoch,loss,validation\n1,x,2\n"):
        with pytest.raises(NccError) as caught:
            curve(Source("c", wrong))
        assert caught.value.code == "E623"
    net = ncc.parse("N 02\n00\n01 tanh 00 +\n")
    fn, history = ncc.fit(net, [[0.0], [1.0]], [[0.0], [0.5]], epochs=3, init="uniform")
    net.report(tmp_path / "net.html", [[1.0], [np.inf]], params=fn.params, history=history)
    about = json.loads(block((tmp_path / "net.html").read_text(), "data"))
    assert about["curve"]["loss"] == [row.loss for row in history.epochs]
    assert about["edges"]["weights"] == [fn.params[0]]
    assert about["samples"] == [[1.0], ["Infinity"]] and about["why"] == ""
    for wrong in ({"x": [[1.0, 2.0]]}, {"params": [1.0]}):
        with pytest.raises(ValueError, match="has"):
            net.report(tmp_path / "net.html", **wrong)
    (tmp_path / "net.curve.csv").write_text(text)
    about = json.loads(block(written(tmp_path, XOR.read_text()).read_text(), "data"))
    assert about["curve"]["loss"] == [0.5, 0.25]


# ---- ncc view


@pytest.fixture
def serving():
    """The server of `ncc view`, in a thread of this process: its port."""
    servers = []

    def start(path):
        args = parse(parser(), ["view", str(path)])
        servers.append(view.Server((view.ADDRESS, 0), view.handler(view.Page(args))))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def viewed(tmp_path):
    """`ncc view` of tmp_path/net.nal, in a process: its port."""
    started = []

    def start(text, *options):
        path = tmp_path / "net.nal"
        path.write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-m", "ncc", "view", str(path), "--no-browser", *options],
            stderr=subprocess.PIPE, text=True, cwd=TOP,
            env={**os.environ, "PYTHONPATH": str(TOP)})
        started.append(process)
        for line in process.stderr:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if found:
                return process, int(found[1])
        raise AssertionError(process.wait())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def got(port, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_view_serves_this_machine_and_the_file_as_it_is(tmp_path, serving, capfd):
    path = tmp_path / "net.nal"
    path.write_text(XOR.read_text())
    port = serving(path)
    status, page = got(port, "/")
    assert status == 200
    checked(page)
    about = json.loads(block(page, "data"))
    assert "connect-src 'self'" in page and about["view"]
    assert json.loads(got(port, "/version")[1]) == {"version": about["view"], "error": ""}
    assert got(port, "/", f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
        assert got(port, "/", host)[0] == 403
    assert got(port, "/etc/passwd")[0] == got(port, "/../net.nal")[0] == 404
    path.write_text("N 02\n00\n01 tanh 00:x\n")
    answer = json.loads(got(port, "/version")[1])
    assert answer["version"] == about["view"] and "net.nal:3:12" in answer["error"]
    path.write_text("N 02\n00\n01 tanh 00:2\n")
    answer = json.loads(got(port, "/version")[1])
    assert answer["error"] == "" and answer["version"] != about["view"]
    assert json.loads(block(got(port, "/")[1], "data"))["count"] == 2
    assert main(["view", str(path), "--port", str(port), "--no-browser"]) == 2
    assert "E656" in capfd.readouterr().err
    for words in (["-"], [str(path), "--port", "x"], [str(path), "--port", "65536"],
                  [str(path), "--target", "nonesuch"]):
        assert main(["view", *words]) == 2
    assert main(["view", str(tmp_path / "none.nal"), "--no-browser"]) == 1


# ---- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with Browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def opened(browser, path, fragment=""):
    browser.asked.clear()
    browser.errors.clear()
    browser.resize(1400)
    browser.open(path.as_uri() + fragment)


def ended(browser):
    """Nothing went wrong, and nothing but the page was asked for."""
    assert not browser.errors
    assert len(browser.asked) == 1, browser.asked


def marked(browser, pane):
    """The texts of the marked lines in sight, of a pane."""
    return browser.value(f"""[...document.querySelectorAll(".pane")[{pane}].querySelectorAll(
        ".l.on")].map((line) => line.lastChild.textContent)""")


def outputs(browser):
    return browser.value('[...document.querySelectorAll("#outputs output")].map('
                         '(o) => o.textContent)')


def strict(net, x, dtype="f32"):
    return ncc.compile(net, dtype=dtype, numerics="strict", tier="now")(x)


@pytest.mark.slow
def test_a_click_marks_a_neuron_everywhere(tmp_path, browser):
    (tmp_path / "curve.csv").write_text("epoch,loss,validation\n1,2,3\n2,1,2\n3,0.5,2.5\n")
    opened(browser, written(tmp_path, XOR, "--curve", str(tmp_path / "curve.csv")))
    assert browser.value("document.getElementById('curve').textContent").endswith(
        "3 epochs; least validation loss 2 after epoch 2")
    assert browser.value("document.querySelectorAll('#curve path').length") == 2
    browser.click("g[data-n='02']")
    assert marked(browser, 0) == ["02 @1 tanh sum +p2 00*p0 01*p1"]
    assert browser.value("document.querySelectorAll('#picture path.on').length") == 3
    assert "tanh(-3.0139*n00 + 3.0147*n01 - 1.698)" in browser.value(
        "document.getElementById('detail').textContent")
    for pane in (1, 2):  # ssa, assembly
        lines = marked(browser, pane)
        assert len(lines) > 20 and not any("ret" in line for line in lines)
    # And back: a line marks its neuron.
    browser.value("document.querySelectorAll('.pane')[0].querySelectorAll('.l')[9].id = 'last'")
    browser.click("#last")
    assert browser.value("document.querySelector('#picture g.on').dataset.n") == "04"
    browser.value("""(() => {
        const choice = document.querySelectorAll(".pane")[1].querySelector("select");
        choice.value = [...choice.options].findIndex((o) => o.text.startsWith("ssa after expand"));
        choice.dispatchEvent(new Event("change"));
    })()""")
    browser.click("#changes")
    made = browser.value("""[...document.querySelectorAll(".pane")[1].querySelectorAll(".l.new")]
        .map((line) => line.lastChild.textContent)""")
    assert made and not any("tanh" in line or "load x" in line for line in made)
    # By keys: to the left, up, clear; a neuron by its index.
    browser.value("document.querySelector('#picture g.on').focus()")
    browser.key("ArrowLeft", "ArrowLeft", "ArrowDown")
    assert browser.value("document.querySelector('#picture g.on').dataset.n") == "01"
    browser.key("Escape")
    assert browser.value("document.querySelector('#picture g.on')") is None
    browser.key("/", "0", "3")
    assert marked(browser, 0) == ["03 @1 tanh sum +p5 00*p3 01*p4"]
    browser.key("Escape")
    browser.value("document.activeElement.blur()")
    browser.key("/", *"yield", "Enter")
    assert browser.value("document.querySelectorAll('.pane')[1].querySelector('.l.hit.at')"
                         ".lastChild.textContent").strip() == "} yield"
    ended(browser)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_the_net_in_the_page_has_the_bits_of_python(tmp_path, browser, dtype):
    net, rows = ncc.load(DIGITS), np.loadtxt(TOP / "examples/digits.csv", delimiter=",")
    opened(browser, written(tmp_path, DIGITS, "--dtype", dtype, "--input",
                            str(TOP / "examples/digits.csv")))
    real = np.float32 if dtype == "f32" else np.float64
    x = rows.astype(real)
    for k in range(2):
        y = strict(net, x[k], dtype)
        assert [real(text) for text in outputs(browser)] == y.tolist()
        browser.click("#after")
    shown = browser.value("""[...document.querySelectorAll("#rows tr")].slice(1).map(
        (row) => [...row.cells].slice(-10).map((cell) => cell.textContent))""")
    assert np.array_equal(np.array(shown, real), strict(net, x[:200], dtype))
    # Every neuron's value, by its tooltip.
    browser.click("#before")
    tips = browser.value("""[...document.querySelectorAll("#picture g.node")].map(
        (g) => g.firstElementChild.textContent.match(/\\nvalue (.*)/)[1])""")
    every = ncc.parse(str(net.graph), "graph")
    every = type(net)(every.graph.with_(outputs=np.arange(122, dtype=np.int32)))
    assert np.array_equal(np.array(tips, real), strict(every, x[1], dtype))
    ended(browser)


@pytest.mark.slow
def test_inputs_steps_and_files_that_are_dropped(tmp_path, browser):
    page = written(tmp_path, CELL)
    opened(browser, page)
    net = ncc.parse(CELL)
    fn = ncc.compile(net, numerics="strict")
    for value in (0.5, -0.25, 3.0):
        browser.value(f"""(() => {{
            const field = document.querySelector(".in input:last-child");
            field.value = "{value}";
            field.dispatchEvent(new Event("change"));
        }})()""")
        browser.click("#step")
        assert [np.float32(text) for text in outputs(browser)] == fn([value]).tolist()
    assert browser.value("document.querySelectorAll('#history path').length") == 2
    fn.reset()

    def dropped(name, text):
        browser.value(f"""(() => {{
            const held = new DataTransfer();
            held.items.add(new File([{json.dumps(text)}], {json.dumps(name)}));
            window.dispatchEvent(new DragEvent("drop", {{dataTransfer: held, bubbles: true}}));
        }})()""")

    def fault():
        return browser.value("(() => { const f = document.getElementById('fault');"
                             "return f.hidden ? '' : f.textContent; })()")

    for text, said in [("1,2\n", "line 1: 2 values, the net has 1 inputs"),
                       ("1\nx\n", 'line 2, value 1: "x" is no number'),
                       ("", "it holds no samples"), ("1;2\n", "not by ;")]:
        dropped("bad.csv", text)
        browser.until("!document.getElementById('fault').hidden")
        assert fault().startswith("bad.csv: ") and said in fault()
        browser.value("document.getElementById('fault').hidden = true")
    dropped("steps.csv", "left\n1\n-0.5\n2e-3\nnan\n")
    browser.until("!document.getElementById('table').hidden")
    assert fault() == ""
    shown = browser.value("""[...document.querySelectorAll("#rows tr")].slice(1).map(
        (row) => [...row.cells].slice(-2).map((cell) => cell.textContent))""")
    wanted = fn.steps(np.array([[1], [-0.5], [2e-3], [np.nan]]))
    assert np.array_equal(np.array(shown, np.float32), wanted, equal_nan=True)
    browser.click("#save")
    saved = browser.folder / "steps.outputs.csv"
    end = time.monotonic() + 20
    while not saved.exists() or not saved.read_text().endswith("\n"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert np.array_equal(np.loadtxt(saved, delimiter=",", dtype=np.float32), wanted,
                          equal_nan=True)
    assert browser.value("document.title") == "net.nal"  # no label has run
    assert all(url.startswith(("file:", "blob:")) for url in browser.asked)
    assert not browser.errors


@pytest.mark.slow
def test_boxes_narrow_windows_dark_and_print(tmp_path, browser):
    net = ncc.new("conv", "1x12x12", "4k3", "max2", 6, init="he")
    net.report(tmp_path / "page.html")
    opened(browser, tmp_path / "page.html")
    strips = ("[...document.querySelectorAll('#picture g.node rect[style]')]"
              ".map((rect) => rect.style.fill)")
    cells = browser.value(strips)
    assert len(cells) > 100 and all(cell.startswith("rgb") for cell in cells)
    browser.click("#random")
    assert browser.value(strips) != cells
    browser.click("#picture g.node:nth-of-type(3)")
    assert "400 neurons" in browser.value("document.getElementById('detail').textContent")
    assert "400 lines" == browser.value("document.querySelector('.pane .bar span').textContent")
    browser.click("#detail canvas", 0.2, 0.2)  # between the maps, in the middle, is nothing
    assert "lines" not in browser.value("document.querySelector('.pane .bar span').textContent")
    for width in (1400, 800, 360):
        browser.resize(width)
        assert browser.value(f"""[...document.querySelectorAll("body *")].filter((e) =>
            e.getBoundingClientRect().right > {width} && !e.closest("#picture, .lines, .scroll"))
            .map((e) => e.outerHTML.slice(0, 80))""") == []
    browser.media(scheme="dark")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    browser.media(media="print")
    assert browser.value("getComputedStyle(document.querySelector('.lines')).display") == "none"
    browser.media()
    ended(browser)


@pytest.mark.slow
def test_the_picture_of_the_first_page(tmp_path):
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    command = next(line for line in (TOP / "examples/screenshot.py").read_text().split("\n")
                   if line.startswith("    python "))
    made = tmp_path / "report.png"
    words = shlex.split(command.replace("examples/pictures/report.png", str(made)))
    subprocess.run([sys.executable, *words[1:]], check=True, cwd=TOP,
                   env={**os.environ, "PYTHONPATH": str(TOP)})
    kept = (TOP / "examples/pictures/report.png").read_bytes()
    assert made.read_bytes()[:24] == kept[:24] and len(kept) < 150_000  # and of the same size
    assert "(examples/pictures/report.png)" in (TOP / "README.md").read_text()


@pytest.mark.slow
def test_the_page_follows_its_file(tmp_path, viewed, browser):
    process, port = viewed("N 02\n00\n01 tanh 00:x\n")
    browser.errors.clear()
    browser.asked.clear()
    browser.resize(1400)
    browser.open(f"http://127.0.0.1:{port}/")
    assert "E107" in browser.value("document.body.textContent")
    path = tmp_path / "net.nal"
    path.write_text("N 02\n00\n01 tanh 00:2\n")
    browser.until("document.querySelector('#picture g.node') !== null")
    browser.click("g[data-n='01']")
    path.write_text("N 02\n00\n01 tanh 00:y\n")
    browser.until("document.getElementById('banner').textContent.includes('net.nal:3:12')")
    assert browser.value("document.querySelector('#picture g.on').dataset.n") == "01"
    path.write_text("N 03\n00\n01 tanh 00:2\n02 relu 01:1\n")
    browser.until("document.querySelectorAll('#picture g.node').length === 3"
                  " && document.querySelector('#picture g.on')?.dataset.n === '01'")
    assert {url.split("/")[2] for url in browser.asked if url != "about:blank"
            and not url.startswith("data:")} == {f"127.0.0.1:{port}"}
    assert not browser.errors
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0

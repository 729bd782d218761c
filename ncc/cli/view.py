"""`ncc view`: the page of a net on this machine's own address, made anew as its files change."""

from __future__ import annotations

import argparse
import json
import os
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ncc.cli.arguments import Commands
from ncc.cli.report import curve_of, page_of, page_options
from ncc.cli.terminal import say
from ncc.driver.observe import Watcher
from ncc.errors import NccError
from ncc.report.page.html import policy
from ncc.report.svg import escaped

ADDRESS = "127.0.0.1"
# Of the page as long as there is none: what is wrong, until there is one.
EMPTY = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>{title}</title>
<style>pre{{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace;margin:2rem;white-space:pre-wrap}}
</style></head><body><h1 hidden>{title}</h1><pre id="fault">{fault}</pre>
<script type="module">{script}</script></body></html>
"""
WAIT = """
const ask = async () => {
    const {version, error} = await (await fetch("version", {cache: "no-store"})).json();
    if (version)
        location.reload();
    else
        document.getElementById("fault").textContent = error;
};
setInterval(() => ask().catch(() => {}), 600);
document.documentElement.dataset.ready = "";
"""


def arguments(commands: Commands) -> None:
    parser = commands.add_parser(
        "view", allow_abbrev=False, parents=[page_options()],
        help="show that page in a browser, and anew when the net's file changes")
    parser.add_argument("--port", type=_port, default=0,
                        help="port on 127.0.0.1; default: one that is free")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.set_defaults(call=view)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no port: 0 .. 65535")
    return int(text)


def view(args: argparse.Namespace, watcher: Watcher) -> str:
    """Serve the page until Ctrl-C. NccError E656 where the port cannot be had."""
    if args.net == "-" or args.input == "-":
        raise NccError("E609", "what is viewed is a file that may change, not standard input")
    page = Page(args)
    try:
        server = Server((ADDRESS, args.port), handler(page))
    except OSError as error:
        raise NccError("E656", f"port {args.port}: {error.strerror or error}",
                       help="--port 0 takes one that is free") from None
    address = f"http://{ADDRESS}:{server.server_port}/"
    with server:
        page.current()
        if page.fault is not None and (page.fault.status == 2 or not os.path.exists(args.net)):
            raise page.fault  # no change of a file will mend the command line
        say(f"{args.net}: {address} (Ctrl-C ends)")
        if not args.no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    return f"{args.net}: no longer at {address}"


class Server(ThreadingHTTPServer):
    """A thread a connection, which ends with the process."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no fault."""


class Page:
    """The last page that could be made; `error` says why there is none of the files as they are."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.text, self.version, self.error = "", "", ""
        self.fault: NccError | None = None  # where that is the error
        self._seen: Any = None
        self._lock = threading.Lock()

    def current(self) -> tuple[str, str, str]:
        """The page, its version, and what is wrong; made anew where a file has changed."""
        with self._lock:
            seen = self._stamps()
            if seen != self._seen:
                self._seen = seen
                version = f"{abs(hash(seen)):x}"
                self.fault, self.error = None, ""
                try:
                    self.text, self.version = page_of(self.args, Watcher(), version), version
                except NccError as error:
                    self.fault, self.error = error, str(error)
                except MemoryError:
                    self.error = "error[E400]: not enough memory"
                except Exception as error:  # a fault of ours: named, and the server goes on
                    self.error = f"error[E701]: a bug in ncc: {type(error).__name__}: {error}"
            return self.text, self.version, self.error

    def _stamps(self) -> tuple[Any, ...]:
        """When and how large the files are that the page is made of."""
        found = []
        for path in (self.args.net, self.args.weights, self.args.input, curve_of(self.args)):
            try:
                stat = os.stat(path) if path else None
            except OSError:
                stat = None
            found.append(stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(found)


def handler(page: Page) -> type[BaseHTTPRequestHandler]:
    """What answers requests: the page at `/`, its version at `/version`, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            # A page elsewhere may give its own name this address; then it asks by that name.
            assert isinstance(self.server, Server)
            port = self.server.server_port
            if self.headers.get("Host") not in (f"{ADDRESS}:{port}", f"localhost:{port}"):
                self._answer(403, "text/plain", "another host's page may not ask")
            elif self.path not in ("/", "/version"):
                self._answer(404, "text/plain", "there is / alone")
            else:
                text, version, error = page.current()
                if self.path == "/version":
                    self._answer(200, "application/json",
                                 json.dumps({"version": version, "error": error}))
                else:
                    self._answer(200, "text/html", text or _empty(page, error))

        def _answer(self, status: int, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            for name, value in (("Content-Type", f"{kind}; charset=utf-8"),
                                ("Content-Length", str(len(data))), ("Cache-Control", "no-store"),
                                ("X-Content-Type-Options", "nosniff"),
                                ("Content-Security-Policy", "frame-ancestors 'none'"),
                                ("Cross-Origin-Resource-Policy", "same-origin")):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _empty(page: Page, error: str) -> str:
    head, meta, rest = EMPTY.format(title=escaped(Path(page.args.net).name), fault=escaped(error),
                                    script=WAIT).partition('<meta name="color-scheme"')
    return f'{head}<meta http-equiv="Content-Security-Policy" content="{policy(WAIT, True)}">\n' \
           f"{meta}{rest}"

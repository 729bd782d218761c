"""A picture of the page that `ncc report` writes, by a headless Chromium. The README's is made by

    python examples/screenshot.py examples/xor.nal examples/pictures/report.png "n=02&x=0,1"
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE = "1080,860"


def screenshot(net: str, picture: str, shown: str = "") -> None:
    """The first screen of the page of a net, as a PNG; `shown` is what its link says."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which(
        "google-chrome")
    if browser is None:
        sys.exit("no Chromium here")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        subprocess.run([sys.executable, "-m", "ncc", "report", net, "-o", str(page)], check=True)
        subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                        f"--user-data-dir={folder}/profile", f"--window-size={SIZE}",
                        "--virtual-time-budget=10000", f"--screenshot={Path(picture).resolve()}",
                        f"{page.as_uri()}#theme=light&{shown}"], check=True,
                       stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    screenshot(*sys.argv[1:])

import json
import re
import shutil
import subprocess

import pytest

from digits.data import dataset
from digits.report.html import build_report
from made_run import make_run

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--dump-dom",
)
PROBE = """
<script>
const found = {};
const visible = () => [...document.querySelectorAll("#errors .card")].filter((card) => card.getClientRects().length);
const count = () => document.querySelector("#errors [role=status]").textContent;
const choose = (name, value) => {
  const select = document.querySelector("#errors select[name=" + name + "]");
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
found.all = visible().length;
const button = document.querySelector(".confusion button");
button.click();
found.wanted = [Number(button.textContent), button.dataset.true, button.dataset.predicted];
found.chosen = [visible().length, ...new Set(visible().flatMap((card) => [card.dataset.true, card.dataset.predicted]))];
found.pressed = [...document.querySelectorAll('.confusion [aria-pressed="true"]')].length;
found.countOfChosen = count();
button.click();
found.again = visible().length;
choose("predicted", "3");
found.predicted = visible().every((card) => card.dataset.predicted === "3");
found.predicted &&= count().startsWith(visible().length + " of");
document.querySelector("#errors .all").click();
found.reset = visible().length;
found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.pictures = [...document.images].every((image) => image.complete && image.naturalWidth > 0);
found.requests = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length;
document.body.insertAdjacentHTML("beforeend", "<pre id='found'>" + JSON.stringify(found) + "</pre>");
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    folder = tmp_path_factory.mktemp("browser")
    sample = dataset.load("sample", limit=600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "load", lambda *_, **__: sample)
        return build_report(make_run(patch, folder), sample, reference=folder / "none")


def look(page, probe, tmp_path, width=500):
    """Open a page with a probe at its end; return what the probe found, and the console's lines."""
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{probe}</body>"), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, probed.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r"<pre id=\"found\">(.*?)</pre>", done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found[1]) if found else None, console


def test_the_filters_show_the_digits_of_a_pair_and_all_again(page, tmp_path):
    found, console = look(page, PROBE, tmp_path)
    assert console == []
    number, true, predicted = found["wanted"]
    assert found["chosen"] == [number, true, predicted]
    assert found["pressed"] == 1
    assert found["countOfChosen"] == f"{number} of {found['all']} shown"
    assert found["all"] == found["again"] == found["reset"] > number
    assert found["predicted"]


@pytest.mark.parametrize("width", [500, 1400])
def test_the_page_fits_its_window_and_asks_for_nothing(page, tmp_path, width):
    found, _ = look(page, PROBE, tmp_path, width)
    assert found["overflow"] <= 0
    assert found["pictures"]
    assert found["requests"] == 0

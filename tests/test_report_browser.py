import json
import re
import shutil
import subprocess

import pytest

from digits.report.html import build_report
from digits.runs.store import Run

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip
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
const matrix = document.querySelector(".confusion").parentElement;
found.cut = matrix.scrollWidth - matrix.clientWidth;
found.pictures = [...document.images].every((image) => image.complete && image.naturalWidth > 0);
found.requests = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length;
document.body.insertAdjacentHTML("beforeend", "<pre id='found'>" + JSON.stringify(found) + "</pre>");
</script>
"""


@pytest.fixture(scope="module")
def page(made_runs, sample, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    folder = shutil.copytree(made_runs / "one", tmp_path_factory.mktemp("browser") / "one")
    return build_report(Run(folder), sample, reference=folder / "none")


@pytest.fixture(scope="module", params=[380, 800, 1400])
def looked(request, page, tmp_path_factory):
    """What the probe at the end of the page finds in a window of each width, and the console's lines."""
    tmp_path = tmp_path_factory.mktemp("window")
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--window-size={request.param},900", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, probed.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r"<pre id=\"found\">(.*?)</pre>", done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found[1]) if found else None, console


def test_the_filters_show_the_digits_of_a_pair_and_all_again(looked):
    found, console = looked
    assert console == []
    number, true, predicted = found["wanted"]
    assert found["chosen"] == [number, true, predicted]
    assert found["pressed"] == 1
    assert found["countOfChosen"] == f"{number} of {found['all']} shown"
    assert found["all"] == found["again"] == found["reset"] > number
    assert found["predicted"]


def test_the_page_fits_its_window_and_asks_for_nothing(looked):
    found, _ = looked
    assert found["overflow"] <= 0
    assert found["cut"] <= 0, "the confusion matrix fits"
    assert found["pictures"]
    assert found["requests"] == 0

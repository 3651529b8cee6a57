"""The report in a real browser: it fits a phone and a desk, and every picture is shown."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from pso_attn.report import build_report
from pso_attn.report.together import entries
from pso_attn.report.together_page import build_together
from pso_attn.testing.reporting import sample_confirmation, sample_run

pytestmark = pytest.mark.browser

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# the page measures itself inside a frame, for no window is as narrow as a phone
PROBE = """<script>addEventListener("load", () => {
  const root = document.documentElement, images = [...document.images];
  parent.postMessage(JSON.stringify({
    page: root.scrollWidth, window: root.clientWidth,
    shown: images.filter(image => image.naturalWidth === 1800).length, images: images.length,
    fetched: performance.getEntriesByType("resource").map(entry => entry.name)
      .filter(name => !name.startsWith("data:")),
    ink: getComputedStyle(document.body).color,
  }), "*"); });</script>"""
FRAME = """<script>addEventListener("message", event => {
  document.body.innerHTML = `<pre>MEASURED${event.data}MEASURED</pre>`; });</script>
<body><iframe src="index.html" style="border: 0; width: %dpx; height: 800px"></iframe></body>"""


@pytest.fixture(scope="module")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = "no Chromium is installed; apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = sample_run(4, 8, name="a-rather-long-name-of-a-run-that-somebody-gave-without-blanks")
    run = replace(run, confirmation=sample_confirmation(run))
    path = build_report(run, tmp_path_factory.mktemp("report"))
    path.write_text(path.read_text().replace("</body>", f"{PROBE}</body>"))
    return path


def measured(chromium, page, profile, width, *flags):
    """What the probe in the page saw in a frame of that width."""
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(FRAME % width)
    done = subprocess.run(
        [chromium, *QUIET, *flags, f"--user-data-dir={profile}", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search("MEASURED({.*})MEASURED", done.stdout)
    assert found, done.stdout[-2000:]
    return json.loads(found.group(1))


def test_a_page_of_several_runs_fits_a_phone(chromium, tmp_path):
    runs = [sample_run(3, 6, name=f"a-rather-long-name-without-blanks-{n}") for n in range(5)]
    own = [tmp_path / run.name / "index.html" for run in runs]
    path = build_together(entries(runs), own, tmp_path)
    path.write_text(path.read_text().replace("</body>", f"{PROBE}</body>"))
    seen = measured(chromium, path, tmp_path / "profile", 390)
    assert seen["page"] == seen["window"] == 390
    assert seen["shown"] == seen["images"] == 1
    assert seen["fetched"] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_window_and_fetches_nothing(chromium, page, tmp_path, width):
    seen = measured(chromium, page, tmp_path, width)
    assert seen["page"] == seen["window"] == width
    assert seen["shown"] == seen["images"] == 6
    assert seen["fetched"] == []


def test_the_page_turns_dark_where_the_person_wants_it(chromium, page, tmp_path):
    light = measured(chromium, page, tmp_path / "light", 1280)
    dark = measured(chromium, page, tmp_path / "dark", 1280, "--force-dark-mode")
    assert light["ink"] != dark["ink"]

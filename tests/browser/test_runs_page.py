"""The Runs tab, the report and the comparison, as a person meets them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import ROOT, TIMEOUT, Server
from tests.browser.test_page import _go_to, _headline, _number

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
HOSTILE = "<img src=x onerror=alert(1)> mine"


@pytest.fixture
def small_csv(tmp_path: Path) -> Path:
    """A part of the sample, two tasks: a run on it takes seconds."""
    with (ROOT / "data" / "sample.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::8]
    path = tmp_path / "small.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "topic", "sentiment"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _prepare(page: Any, file: Path) -> None:
    page.locator("#csv input[type=file]").set_input_files(file)
    page.wait_for_selector("#trainable")
    page.get_by_label("Frozen", exact=True).check()
    page.wait_for_function("() => document.querySelector('#trainable').innerText.includes('0.00 M')")
    _number(page, "Epochs", 2)


def _wait_for_the_end(page: Any) -> str:
    page.wait_for_selector("#result-summary table")
    assert _headline(page) == "Done"
    return page.inner_text("#run-status .chip b")


def _open(page: Any, name: str) -> None:
    _go_to(page, "Runs")
    page.locator(f"#run-list input[value='{name}']").check(force=True)
    page.locator("#run-head .chip b", has_text=name).wait_for()


def test_runs_tab_names_shows_and_deletes_a_run(open_page: OpenPage, server: Server, small_csv: Path) -> None:
    page = open_page()
    _prepare(page, small_csv)
    page.click("#start", click_count=2)
    name = _wait_for_the_end(page)
    assert "Test rows were scored once" in page.inner_text("#result-summary caption")
    assert page.locator("#result-mistakes .finding, #result-mistakes .hint").count() > 0

    _open(page, name)
    page.wait_for_selector("#run-report-summary table")
    page.get_by_label("Name", exact=True).fill(HOSTILE)
    page.click("#rename")
    page.locator("#run-list label", has_text="onerror").wait_for()
    page.locator("#run-head .run-title", has_text="onerror").wait_for()
    assert page.locator("#run-head img, #run-list img").count() == 0
    page.wait_for_function("() => document.querySelector('#checkpoint input').value.includes('mine')")
    page.get_by_role("tab", name="Curves", exact=True).click()
    page.wait_for_selector("#run-loss-plot .js-plotly-plot .scatterlayer path.js-line", state="attached")
    page.click("#run-more-curves > button")
    page.locator("#run-more-choice label", has_text="Rates").click()
    page.wait_for_selector("#run-rates-plot .js-plotly-plot .scatterlayer path.js-line", state="attached")
    _choose_faster_than_the_server_answers(page)
    page.get_by_role("tab", name="Configuration", exact=True).click()
    page.locator("#run-yaml", has_text="small.csv").wait_for()
    _delete_in_two_windows(page, open_page, server, name)


def _choose_faster_than_the_server_answers(page: Any) -> None:
    """Choose two figures within one answer: the second is the one that is wanted."""
    _slow_down(page, 1500)
    page.locator("#run-more-choice label", has_text="Weights").click()
    page.locator("#run-more-choice label", has_text="Plan").click()
    page.wait_for_selector("#run-plan-plot .js-plotly-plot", state="attached")
    page.evaluate("() => { window.slow = 0; }")
    page.wait_for_selector("#run-weights-plot", state="detached")


def _slow_down(page: Any, milliseconds: int) -> None:
    """Let the page's requests wait before they are sent; `window.slow = 0` ends it for those to come."""
    page.evaluate(
        """milliseconds => {
          const real = window.fetch;
          window.slow = milliseconds;
          window.fetch = async (...given) => {
            await new Promise(done => setTimeout(done, window.slow));
            return real(...given);
          };
        }""",
        milliseconds,
    )


def _delete_in_two_windows(page: Any, open_page: OpenPage, server: Server, name: str) -> None:
    other = open_page(context=page.context)
    _open(other, name)
    # its own look at the runs, which follows the end of the run that it shows, must be over
    other.wait_for_function("() => document.querySelector('#checkpoint input').value.includes('mine')")
    other.wait_for_selector("#run-report-summary table")
    # both halves of a double click at once: between two real ones a busy page may have put Keep below the pointer
    page.evaluate("() => { const button = document.querySelector('#delete'); button.click(); button.click(); }")
    page.wait_for_selector("#really-delete", state="visible")
    page.click("#keep")
    page.wait_for_selector("#delete", state="visible")
    _ask(page)
    assert (server.runs / name).exists()
    page.click("#really-delete")
    page.locator("#run-head", has_text="No run is open").wait_for()
    assert not (server.runs / name).exists()
    page.wait_for_function("() => !document.querySelector('#checkpoint input').value.includes('mine')")
    other.click("#delete")
    other.click("#really-delete")
    other.locator("[data-testid=toast-body]", has_text="no such run").wait_for()
    other.locator("#run-head", has_text="No run is open").wait_for()
    _go_to(page, "Train")
    page.locator("#run-status", has_text="Nothing is training").wait_for()


def _ask(page: Any) -> None:
    """Press Delete until the question is there."""
    for _ in range(TIMEOUT // 300):
        if page.locator("#really-delete").is_visible():
            return
        if page.locator("#delete").is_visible():
            page.click("#delete")
        page.wait_for_timeout(300)
    pytest.fail("Delete does not ask")


@pytest.mark.parametrize("renewed", [False, True], ids=["before", "after"])
def test_runs_tab_refuses_a_run_that_another_window_deleted(
    open_page: OpenPage, server: Server, small_csv: Path, renewed: bool
) -> None:
    """Choose it before the list is renewed, and so that the choice arrives after that."""
    page = open_page()
    _prepare(page, small_csv)
    page.click("#start")
    name = _wait_for_the_end(page)
    _go_to(page, "Runs")
    page.wait_for_selector(f"#run-list input[value='{name}']")
    page.wait_for_timeout(3000)  # the end of the run and the tab have both had the list renewed
    for path in sorted((server.runs / name).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (server.runs / name).rmdir()
    if renewed:
        _slow_down(page, 4000)
    page.locator(f"#run-list input[value='{name}']").check(force=True)
    if renewed:
        page.evaluate("() => { window.slow = 0; }")
        _go_to(page, "Train")
        _go_to(page, "Runs")
        page.wait_for_function(f"() => !document.querySelector(`#run-list input[value='{name}']`)")
    said = re.compile("not offered any more" if renewed else "no such run|not offered any more")
    page.locator("[data-testid=toast-body]", has_text=said).wait_for()
    page.wait_for_function(f"() => !document.querySelector(`#run-list input[value='{name}']`)")
    assert name not in page.inner_text("#run-list")


def test_sharing_button_compares_both_tasks_with_each_alone(open_page: OpenPage, small_csv: Path) -> None:
    page = open_page()
    assert page.is_disabled("#compare")
    assert "needs two tasks" in page.inner_text("#compare-about")
    _prepare(page, small_csv)
    page.locator("#compare-about", has_text="3 runs").wait_for()
    page.click("#compare")
    page.locator("#comparison", has_text="of 3 runs").wait_for()
    page.reload()
    page.locator("#comparison table").wait_for()
    assert page.locator("#comparison tbody tr").count() == 2
    assert page.locator("#comparison .notes li").count() == 2
    _go_to(page, "Runs")
    page.locator("#run-list label", has_text="topic alone, seed 0").wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_runs_tab_fits_a_phone_and_has_enough_contrast(open_page: OpenPage, dark: bool) -> None:
    page = open_page(width=390, height=844, dark=dark)
    _open(page, "starter")
    page.wait_for_selector("#run-report-summary table")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(page, options={"runOnly": ["color-contrast", "label", "button-name", "aria-progressbar-name"]})
    assert found.violations_count == 0, found.generate_report()

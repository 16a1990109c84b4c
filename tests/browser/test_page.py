"""A person at the page: a real run on the real encoder in a real browser."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import TIMEOUT, Server

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def _go_to(page: Any, name: str) -> None:
    """Select a tab; on a phone it may be in the overflow menu, and while a page is laid out it is in neither place."""
    tab = page.get_by_role("tab", name=name, exact=True).first
    menu = page.locator(".overflow-menu > button").first
    end = time.monotonic() + TIMEOUT / 1000
    while not (tab.is_visible() or menu.is_visible()):
        assert time.monotonic() < end, f"there is no tab {name}"
        page.wait_for_timeout(50)
    if tab.is_visible():
        tab.click()
        return
    menu.click()
    page.locator(".overflow-dropdown button", has_text=name).first.click()


def _choose_sample(page: Any) -> None:
    page.click("#use-sample")
    page.wait_for_selector("#trainable")


def _number(page: Any, label: str, value: float) -> None:
    page.get_by_label(label, exact=True).fill(str(value))
    page.keyboard.press("Tab")


def _points(page: Any, plot: str) -> int:
    """Count the points of the first curve of a plot."""
    return page.evaluate(
        "id => { const plot = document.querySelector(id + ' .js-plotly-plot');"
        " return plot && plot._fullData && plot._fullData.length ? plot._fullData[0].x.length : 0; }",
        plot,
    )


def _wait_for_points(page: Any, at_least: int = 2) -> None:
    page.wait_for_function(
        "least => { const plot = document.querySelector('#loss-plot .js-plotly-plot');"
        " return plot && plot._fullData && plot._fullData.length && plot._fullData[0].x.length >= least; }",
        arg=at_least,
    )


def _headline(page: Any) -> str:
    return page.inner_text("#run-status .headline b")


def test_page_trains_on_the_sample_and_every_tab_answers_with_the_new_checkpoint(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page()
    assert "starter" in page.input_value("#checkpoint input")
    _choose_sample(page)
    page.get_by_label("Frozen", exact=True).check()
    page.wait_for_function("() => document.querySelector('#trainable').innerText.includes('0.01 M')")
    others = {path.name for path in server.runs.iterdir()} if server.runs.is_dir() else set()  # of other tests
    page.click("#start", click_count=2)  # a double click starts one run
    _wait_for_points(page)
    assert page.is_disabled("#start")
    before = page.inner_text("#run-status .chip b")
    page.reload()
    _wait_for_points(page)
    assert page.inner_text("#run-status .chip b") == before, "a refresh finds the same run"
    page.wait_for_selector("#result-summary table")
    assert _headline(page) == "Done"
    assert {path.name for path in server.runs.iterdir()} - others == {before}
    assert "starter" not in page.input_value("#checkpoint input"), "the new checkpoint answers"
    assert float(page.inner_text("#result-summary tbody tr:first-child td:nth-child(2)").split()[0]) > 0.8
    _every_tab_answers(page)


def _every_tab_answers(page: Any) -> None:
    _go_to(page, "Topic")
    page.locator("#topic-texts textarea").fill(
        "The goalkeeper saved two penalties.\nParliament passed the tax bill.\n<b onclick=alert(1)>x</b>"
    )
    page.click("#topic-go")
    page.wait_for_selector("#topic-answer .answer")
    assert page.locator("#topic-answer .answer").count() == 3
    assert page.locator("#topic-answer .prob.top .prob-label").all_inner_texts()[:2] == ["sports", "politics"]
    assert page.locator("#topic-answer .quote b").count() == 0, "a person's text is never HTML"
    _go_to(page, "Sentiment")
    page.locator("#sentiment-texts textarea").fill("What a wonderful evening, we loved every minute.")
    page.click("#sentiment-go")
    page.wait_for_selector("#sentiment-answer .prob.top")
    assert page.inner_text("#sentiment-answer .prob.top .prob-label") == "positive"
    _go_to(page, "Predict")
    page.locator("#predict-text textarea").fill("The orchestra played beautifully.")
    page.click("#predict-go")
    page.wait_for_selector("#predict-answer .answer")
    assert page.locator("#predict-answer h3").all_inner_texts() == ["topic", "sentiment", "entities"]
    _go_to(page, "Embeddings")
    page.locator("#embed-texts textarea").fill("one text\nanother text\na third one")
    page.click("#embed-go")
    page.wait_for_selector("#embed-map .js-plotly-plot .points path.point", state="attached")
    assert "384" in page.inner_text("#embed-summary")
    assert page.locator("#embed-map .js-plotly-plot").bounding_box()["height"] > 200
    _go_to(page, "Similarity")
    page.locator("#similar-left textarea").fill("I cannot log in.")
    page.locator("#similar-right textarea").fill("My password is refused.\nThe soup is cold.")
    page.click("#similar-go")
    page.wait_for_selector("#similar-best table")
    assert "My password is refused." in page.inner_text("#similar-best tbody")


def test_page_keeps_the_zoom_of_a_live_plot_and_stop_keeps_a_checkpoint(open_page: OpenPage) -> None:
    page = open_page()
    _choose_sample(page)
    _number(page, "Epochs", 30)
    page.click("#start")
    _wait_for_points(page, 3)
    page.evaluate(
        "() => Plotly.relayout(document.querySelector('#loss-plot .js-plotly-plot'), {'xaxis.range': [0, 77]})"
    )
    _wait_for_points(page, _points(page, "#loss-plot") + 2)
    shown = page.evaluate("() => document.querySelector('#loss-plot .js-plotly-plot')._fullLayout.xaxis.range")
    assert shown == [0, 77]
    other = open_page(context=page.context)
    _wait_for_points(other)
    assert other.inner_text("#run-status .chip b") == page.inner_text("#run-status .chip b"), "a second window sees it"
    page.click("#stop")
    page.wait_for_selector("#run-status .status.stopped")
    assert _headline(page) == "Stopped"
    page.wait_for_selector("#result-summary .notes")
    page.wait_for_function("() => !document.querySelector('#start').disabled")
    page.click("#prepare-download")
    page.wait_for_selector("#downloads >> text=.zip")


def test_page_refuses_a_picture_named_csv_in_one_sentence_and_works_on(open_page: OpenPage, tmp_path: Path) -> None:
    picture = tmp_path / "labels.csv"
    picture.write_bytes(PNG)
    page = open_page()
    page.locator("#csv input[type=file]").set_input_files(picture)
    refused = page.locator("#data-summary [role=alert]")
    refused.wait_for()
    assert "PNG image" in refused.inner_text()
    assert "Traceback" not in page.content()
    page.click("#start")
    page.locator("[data-testid=toast-body]", has_text="PNG image").wait_for()
    _choose_sample(page)
    assert "2,250" in page.inner_text("#data-summary")


def test_page_shows_its_guesses_and_reads_again_when_they_are_corrected(open_page: OpenPage, tmp_path: Path) -> None:
    text = "Здравствуйте, это отзыв номер {}, хорошего вам дня"
    rows = [f"{('bad', 'good')[number % 2]};{text.format(number)}" for number in range(40)]
    file = tmp_path / "без заголовка.csv"
    file.write_bytes("\n".join(rows).encode("cp1251"))
    page = open_page()
    page.locator("#csv input[type=file]").set_input_files(file)
    page.locator("#data-summary", has_text="cp1251, semicolon, no header").wait_for()
    assert page.locator("#data-summary td", has_text="column 2").count() == 1
    page.click("#columns > button")
    _choose(page, "#reading-header", "names the columns")
    page.locator("#data-summary", has_text="first row is the header").wait_for()
    assert "39" in page.inner_text("#data-summary .chips")
    _choose(page, "#reading-delimiter", "tab")
    page.locator("#data-summary [role=alert]").wait_for()
    _choose(page, "#reading-delimiter", "Guessed")
    page.locator("#data-summary .chips").wait_for()


def test_page_understands_several_files_and_offers_to_merge_labels(open_page: OpenPage, tmp_path: Path) -> None:
    texts = [f"a sentence about the weather, number {number}" for number in range(60)]
    files = {
        "train.csv": [f'"{text}",{("Good", "bad", "good ")[number % 3]}' for number, text in enumerate(texts)],
        "test.csv": [f'"{text} again",{("Good", "bad")[number % 2]}' for number, text in enumerate(texts[:20])],
    }
    for name, rows in files.items():
        (tmp_path / name).write_text("\n".join(["text,mood", *rows]))
    page = open_page()
    page.locator("#csv input[type=file]").set_input_files([tmp_path / name for name in files])
    page.locator("#data-summary", has_text="named as sides of the split").wait_for()
    page.wait_for_selector("#trainable")
    assert "0 leaks" in page.inner_text("#plan-summary")
    assert "3 classes" in page.inner_text("#data-summary")
    page.locator("#merges label", has_text="good").click()
    page.locator("#data-summary", has_text="2 classes").wait_for()


def test_page_tells_what_a_run_will_take_before_it_starts(open_page: OpenPage) -> None:
    page = open_page()
    _choose_sample(page)
    page.click("#preflight")
    page.locator("#preflight-answer", has_text="whole run").wait_for()
    answer = page.inner_text("#preflight-answer")
    assert "loss at step 0" in answer
    assert "memory" in answer


def test_page_predicts_a_whole_file_row_for_row(open_page: OpenPage, tmp_path: Path) -> None:
    file = tmp_path / "letters.csv"
    lines = ["=id,text", *(f"{number},The goalkeeper saved penalty number {number}" for number in range(30)), "30,"]
    file.write_text("\n".join(lines))
    page = open_page()
    _go_to(page, "Predict")
    page.locator("#predict-file input[type=file]").set_input_files(file)
    page.wait_for_timeout(500)
    page.click("#predict-file-go")
    link = page.locator("#predict-file-downloads a[href*='letters-predicted.csv']")
    link.first.wait_for()
    assert "of 31 rows" in page.inner_text("#predict-file-status")
    with page.expect_download() as download:
        link.first.click()
    with open(download.value.path(), encoding="utf-8", newline="") as written:
        rows = list(csv.reader(written))
    assert rows[0] == [
        "'=id",
        "text",
        "topic_predicted",
        "topic_confidence",
        "sentiment_predicted",
        "sentiment_confidence",
        "entities_predicted",
        "entities_confidence",
    ]
    assert len(rows) == 32
    assert [row[2] for row in rows[1:31]] == ["sports"] * 30
    assert rows[31] == ["30", *[""] * 7]


def _choose(page: Any, dropdown: str, option: str) -> None:
    page.click(f"{dropdown} input")
    page.get_by_role("option", name=option, exact=True).click()


def test_page_says_what_is_wrong_with_a_value_and_starts_nothing(open_page: OpenPage, server: Server) -> None:
    page = open_page()
    before = set(server.runs.glob("*"))
    page.click("#start")
    page.locator("[data-testid=toast-body]", has_text="Choose a CSV file first").wait_for()
    _choose_sample(page)
    page.click("#advanced > button")
    _number(page, "Train", 0.9)
    page.click("#start")
    page.locator("[data-testid=toast-body]", has_text="add up to 1").first.wait_for()
    assert set(server.runs.glob("*")) == before


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_fits_a_phone_and_has_enough_contrast(open_page: OpenPage, dark: bool) -> None:
    page = open_page(width=390, height=844, dark=dark)
    _choose_sample(page)
    for name in ("Train", "Runs", "Predict", "Topic", "Embeddings", "Similarity", "Guide"):
        _go_to(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    _go_to(page, "Train")
    found = Axe().run(page, options={"runOnly": ["color-contrast", "label", "button-name", "aria-progressbar-name"]})
    assert found.violations_count == 0, found.generate_report()

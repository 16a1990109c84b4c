"""Entities as a person and a program meet them: the tab, the other tabs, files and the endpoint."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.browser.conftest import ROOT, Server
from tests.browser.test_page import _go_to

pytestmark = pytest.mark.browser
# what is waited for is drawn paler, and becomes opaque in a moment
FADED_IN = """selector => { for (let one = document.querySelector(selector); one; one = one.parentElement)
  if (getComputedStyle(one).opacity !== '1') return false; return true; }"""
OpenPage = Callable[..., Any]
TEXTS = "  Anna Moreau left Oslo for Northwind Bank in Lisbon.\n<b onclick=alert(1)>Ilse Brandt</b> of Bergen\nNothing."
HEAD = {"head": "mlp", "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    """Connect to the server."""
    found = Client(server.url, verbose=False)
    yield found
    found.close()


@pytest.fixture(scope="module")
def runs(client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Train two quick checkpoints on a part of the sample: one with a head that finds entities, one without."""
    with (ROOT / "data" / "sample.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::8]
    path = tmp_path_factory.mktemp("data") / "part.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "topic", "entities"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    tasks = {"with": {"topic": {}, "entities": HEAD}, "without": {"topic": {}}}
    return {name: _train(client, path, chosen) for name, chosen in tasks.items()}


def _train(client: Client, path: Path, tasks: dict[str, Any]) -> str:
    config = {"training": {"preset": "frozen", "epochs": 5}, "tasks": tasks}
    run = client.predict(handle_file(path), config, api_name="/start_run")
    for _ in range(900):
        status = client.predict(run["run"], run["token"], api_name="/run_status")
        if status["state"] not in {"queued", "running"}:
            assert status["state"] == "done", status
            return run["run"]
        time.sleep(0.2)
    pytest.fail("the run did not end")


def _answer_with(page: Any, tasks: str) -> None:
    """Choose the checkpoint with these heads."""
    page.click("#checkpoint input")
    page.get_by_role("option").filter(has_text=re.compile(rf": {tasks}\s*$")).first.click()


def test_entities_endpoint_finds_them_in_the_text_as_sent(client: Client, runs: dict[str, str]) -> None:
    texts = TEXTS.splitlines()
    found = client.predict(texts, "", runs["with"], api_name="/entities")
    assert [one["text"] for one in found] == texts
    entities = [(one["text"], entity) for one in found for entity in one["entities"]]
    assert len(entities) > 3
    for text, entity in entities:
        assert set(entity) == {"start", "end", "label", "text", "confidence"}
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert entity["label"] in {"LOC", "ORG", "PER"}
        assert 0 < entity["confidence"] <= 1
    assert client.predict(TEXTS, "entities", runs["with"], api_name="/entities") == found
    answer = client.predict(texts[0], runs["with"], api_name="/predict")
    assert [entity["text"] for entity in answer["entities"]["entities"]] == [e["text"] for e in found[0]["entities"]]
    assert set(answer["topic"]) == {"label", "confidence", "probabilities"}


@pytest.mark.parametrize(
    ("endpoint", "head", "which", "sentence"),
    [
        ("/entities", "topic", "with", "gives a class and finds no entities"),
        ("/topic", "entities", "with", "finds entities and gives no class"),
        ("/entities", "", "without", "no head that finds entities"),
        ("/entities", "weather", "with", 'no task "weather"'),
    ],
)
def test_entities_and_classes_are_not_mixed_up(
    client: Client, runs: dict[str, str], endpoint: str, head: str, which: str, sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict("x", head, runs[which], api_name=endpoint)


@pytest.mark.usefixtures("runs")
def test_entities_tab_marks_lists_and_gives_away(open_page: OpenPage) -> None:
    page = open_page()
    _answer_with(page, "topic, entities")
    _go_to(page, "Entities")
    page.wait_for_function("() => document.querySelector('#entities-head input').value === 'entities'")
    page.locator("#entities-texts textarea").fill(TEXTS)
    page.click("#entities-go")
    page.wait_for_selector("#entities-list table")
    assert page.locator("#entities-answer ol.marked li").count() == 3
    assert page.locator("#entities-answer ol.marked li b[onclick]").count() == 0, "a person's text is never HTML"
    marks = page.locator("#entities-answer ol.marked mark").all_inner_texts()
    listed = page.locator("#entities-list tbody tr").all_inner_texts()
    assert len(marks) == len(listed) > 3
    number, entity, kind, start, end, _ = listed[0].split("\t")
    assert TEXTS.splitlines()[int(number) - 1][int(start) : int(end)] == entity
    assert [part.strip() for part in marks[0].split("\n") if part.strip()] in ([entity, kind], [f"{entity}{kind}"])
    with page.expect_download() as download:
        page.locator("#entities-downloads a[href*='entities.jsonl']").first.click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(listed)
    assert all(row["text"][row["start"] : row["end"]] == row["entity"] for row in rows)


@pytest.mark.usefixtures("runs")
def test_entities_tab_says_what_to_do_where_no_head_finds_any(open_page: OpenPage) -> None:
    page = open_page()
    _answer_with(page, "topic")
    _go_to(page, "Entities")
    page.wait_for_selector("#entities-none .empty")
    assert "Choose another one" in page.inner_text("#entities-none")
    assert page.is_disabled("#entities-go")
    assert page.locator("#entities-found").is_hidden()
    _answer_with(page, "topic, entities")
    page.wait_for_selector("#entities-found .empty")
    assert page.locator("#entities-none").is_hidden()
    assert page.is_enabled("#entities-go")


@pytest.mark.usefixtures("runs")
def test_other_tabs_answer_with_a_checkpoint_that_finds_entities(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    _answer_with(page, "topic, entities")
    _go_to(page, "Topic")
    page.wait_for_function("() => document.querySelector('#topic-head input').value === 'topic'")
    page.click("#topic-head input")
    assert page.get_by_role("option").all_inner_texts() == ["✓\ntopic"], "heads that give a class alone"
    _go_to(page, "Predict")
    page.locator("#predict-text textarea").fill("Anna Moreau left Oslo.")
    page.click("#predict-go")
    page.wait_for_selector("#predict-answer .marked mark")
    file = tmp_path / "letters.csv"
    file.write_text("id,text\n1,Anna Moreau left Oslo for Bergen.\n2,\n", encoding="utf-8")
    page.locator("#predict-file input[type=file]").set_input_files(file)
    page.wait_for_timeout(500)
    page.click("#predict-file-go")
    page.wait_for_selector("#predict-file-status table")
    shown = page.inner_text("#predict-file-status tbody tr:first-child")
    with page.expect_download() as download:
        page.locator("#predict-file-downloads a[href*='letters-predicted.csv']").first.click()
    with open(download.value.path(), encoding="utf-8", newline="") as written:
        rows = list(csv.DictReader(written))
    spans = json.loads(rows[0]["entities_predicted"])
    assert spans
    assert "; ".join(f"{span['text']} ({span['label']})" for span in spans) in shown
    assert all(rows[0]["text"][span["start"] : span["end"]] == span["text"] for span in spans)
    assert rows[1]["entities_predicted"] == ""


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_entities_tab_fits_a_phone_and_has_enough_contrast(open_page: OpenPage, dark: bool) -> None:
    page = open_page(width=390, height=844, dark=dark)
    _answer_with(page, "topic, entities")
    _go_to(page, "Entities")
    page.wait_for_function("() => document.querySelector('#entities-head input').value === 'entities'")
    page.locator("#entities-texts textarea").fill(TEXTS + "\n" + "Ilse Brandt lives in Oslo. " * 60)
    page.click("#entities-go")
    page.wait_for_selector("#entities-list table")
    page.mouse.move(0, 0)
    assert page.locator("#entities-answer .unread").count() == 1
    page.wait_for_function(FADED_IN, arg="#entities-answer .unread")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(page, options={"runOnly": ["color-contrast", "label", "button-name", "list", "listitem"]})
    assert found.violations_count == 0, found.generate_report()

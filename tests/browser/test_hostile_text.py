"""Text that means harm, in every place where a person's text is shown: none of it becomes part of the page.

40 payloads in cells, labels, headers, the file's name, the names of runs, and what is typed into the tabs.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtl.config import DataConfig, RunConfig
from mtl.data.reading import read_table
from mtl.runs.store import Run, RunStore
from tests.browser.conftest import Server
from tests.browser.test_page import _go_to

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
HOST = "evil.example"
PAYLOADS = [
    "<script>hit()</script>",
    "</script><script>hit()</script>",
    "<img src=x onerror=hit()>",
    f"<img src=//{HOST}/pixel.png>",
    f"<img srcset=//{HOST}/a.png>",
    "<svg onload=hit()>",
    "<svg><script>hit()</script></svg>",
    "<svg><animate onbegin=hit() attributeName=x dur=1s>",
    "<body onload=hit()>",
    "<details open ontoggle=hit()>x</details>",
    "<video src=x onerror=hit()></video>",
    "<audio src=x onerror=hit()>",
    "<input autofocus onfocus=hit()>",
    "<select autofocus onfocus=hit()>",
    "<textarea autofocus onfocus=hit()>",
    "<marquee onstart=hit()>x</marquee>",
    "<a href=javascript:hit()>x</a>",
    f"<a href=//{HOST}>x</a>",
    f"<form action=//{HOST}><button>x</button></form>",
    f"<iframe src=//{HOST}></iframe>",
    "<iframe srcdoc='<script>parent.hit()</script>'></iframe>",
    f"<object data=//{HOST}></object>",
    f"<embed src=//{HOST}>",
    f"<link rel=stylesheet href=//{HOST}/a.css>",
    f"<style>@import '//{HOST}/a.css'</style>",
    f"<meta http-equiv=refresh content='0;url=//{HOST}'>",
    f"<base href=//{HOST}/>",
    f"<div style=background:url(//{HOST}/a.png)>x</div>",
    "\"><img src=x onerror=hit()>",
    "'><img src=x onerror=hit()>",
    "' onmouseover=hit() autofocus onfocus=hit() x='",
    "\" onfocus=hit() autofocus tabindex=1 x=\"",
    "--><img src=x onerror=hit()>",
    "]]><img src=x onerror=hit()>",
    "&lt;img src=x onerror=hit()&gt;",
    "&#60;img src=x onerror=hit()&#62;",
    f"![x](http://{HOST}/a.png)",
    "[x](javascript:hit())",
    "${hit()} {{hit()}} {% hit %} <%= hit() %>",
    f"<math><mtext><img src=//{HOST}/m.png onerror=hit()></mtext></math>",
]  # fmt: skip
WATCH = """
window.hits = 0; window.hit = () => { window.hits += 1; };
window.violations = [];
document.addEventListener('securitypolicyviolation', event => window.violations.push(event.blockedURI));
"""
FOREIGN = " , ".join(
    f"[{name}*='//{HOST}']" for name in ("src", "href", "action", "srcset", "data", "content", "style")
)
OUR_HEADERS = ("text <b onclick=hit()>", "label <img src=x onerror=hit()>", "topic <svg onload=hit()>")


@pytest.fixture
def hostile_csv(tmp_path: Path) -> Path:
    """A table that can be learnt from; its name, its headers, its labels and its cells mean harm."""
    path = tmp_path / f"<img src=x onerror=hit()><a href=javascript:hit()>{HOST}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(OUR_HEADERS)
        for number in range(4):
            for place, payload in enumerate(PAYLOADS):
                text = f"the team of number {number} and {place} wrote {payload} in the morning"
                writer.writerow([text, payload, "ab"[(number + place) % 2]])
    return path


@pytest.fixture
def hostile_run(server: Server, raw_config: RunConfig, hostile_csv: Path) -> Iterator[Run]:
    """A finished run on that table among the page's runs, and 39 copies of it; each has a payload for a name."""
    from mtl.runs.worker import StopRequest, work

    before = set(server.runs.iterdir()) if server.runs.is_dir() else set()
    data = DataConfig(text_column=(OUR_HEADERS[0],), task_columns=OUR_HEADERS[1:])
    training = raw_config.training.model_copy(update={"epochs": 1, "batch_size": 32})
    store = RunStore(server.runs)
    table = read_table(hostile_csv.read_bytes())
    config = raw_config.model_copy(update={"data": data, "training": training})
    run = store.create(config, table, files=[hostile_csv.name])
    assert work(run, StopRequest()).state == "done"
    for number, payload in enumerate(PAYLOADS):
        one = Run(run.path.with_name(f"{run.name}-{number}")) if number else run
        if number:
            shutil.copytree(run.path, one.path)
        one.set_title(payload[:80])
    yield run
    for path in set(server.runs.iterdir()) - before:
        shutil.rmtree(path)


def _check(page: Any) -> None:
    """See that nothing ran, nothing was fetched and no element of theirs is there."""
    page.wait_for_timeout(150)
    assert page.evaluate("window.hits") == 0, "a script of theirs ran"
    assert page.evaluate("window.violations") == [], "something of theirs was to be fetched"
    assert page.locator(FOREIGN).count() == 0, "an element of theirs is in the page"
    assert page.locator("[onerror], [onload], [onfocus], [ontoggle], [onbegin], [onmouseover], [onstart]").count() == 0
    assert page.locator("[href^='javascript:']").count() == 0


def test_hostile_text_stays_text_wherever_it_is_shown(
    open_page: OpenPage, chromium: Any, hostile_csv: Path, hostile_run: Run
) -> None:
    assert len(PAYLOADS) == len(set(PAYLOADS)) == 40
    context = chromium.new_context(viewport={"width": 1366, "height": 900})
    context.add_init_script(WATCH)
    page = open_page(context=context)
    page.set_default_timeout(60_000)
    try:
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        _look_at_the_file(page, hostile_csv)
        _look_at_the_runs(page, hostile_run)
        _ask_every_tab(page)
        assert dialogs == []
    finally:
        context.close()


def _look_at_the_file(page: Any, path: Path) -> None:
    page.locator("#csv input[type=file]").set_input_files(path)
    page.wait_for_selector("#trainable")
    assert PAYLOADS[0] in page.text_content("#train")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    _check(page)


def _look_at_the_runs(page: Any, run: Run) -> None:
    _go_to(page, "Runs")
    page.locator(f"#run-list input[value='{run.name}-39']").wait_for(state="attached")
    assert all(payload[:40] in page.text_content("#run-list") for payload in PAYLOADS)
    page.locator(f"#run-list input[value='{run.name}']").check(force=True)
    page.locator("#run-head .chip b", has_text=run.name).first.wait_for()
    _check(page)
    for part in ("Curves", "Configuration", "Report"):
        page.locator("#run-parts").get_by_role("tab", name=part, exact=True).click()
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        _check(page)
    page.click("#run-use")
    page.wait_for_function(
        "name => document.querySelector('#checkpoint input').value.includes(name)", arg=PAYLOADS[0][:12]
    )
    _check(page)


def _ask_every_tab(page: Any) -> None:
    lines = "\n".join(PAYLOADS)
    for tab, box, go, answer in (
        ("Predict", "#predict-text textarea", "#predict-go", "#predict-answer .answer"),
        ("Topic", "#topic-texts textarea", "#topic-go", "#topic-answer .answer"),
        ("Similarity", "#similar-left textarea", "#similar-go", "#similar-best table"),
    ):
        _go_to(page, tab)
        page.locator(box).fill(PAYLOADS[2] if tab == "Predict" else lines)
        if tab == "Similarity":
            page.locator("#similar-right textarea").fill("\n".join(PAYLOADS[:4]))
        page.click(go)
        page.wait_for_selector(answer)
        _check(page)
    _go_to(page, "Topic")
    page.locator("#topic-head input").fill(PAYLOADS[2])
    page.keyboard.press("Tab")
    page.click("#topic-go")
    page.locator("[data-testid=toast-text]", has_text="no task").first.wait_for()
    _check(page)

"""A person plans a run: every setting, the rates before the run, and the plan as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from mtl.config_text import from_dict, read_yaml

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
CONFIG = """
data: {files: [elsewhere.csv]}
training:
  preset: progressive
  seed: 7
  weighting: ramp
  clip: null
  sampling: annealed
  sampling_options: {final_exponent: 0.5}
  conflict_every: 9
tasks:
  topic: {head: mlp, loss: focal}
  sentiment: {final_loss_weight: 0.25, learning_rate: 0.002, labels: [negative, neutral, positive]}
"""


def _choose_sample(page: Any) -> None:
    page.click("#use-sample")
    page.wait_for_selector("#trainable")


def _open(page: Any, fold: str) -> None:
    page.click(f"{fold} > button")
    page.locator(f"{fold} [data-testid=accordion-content] h3").first.wait_for()


def _choose(page: Any, dropdown: str, option: str) -> None:
    page.click(f"{dropdown} input")
    page.get_by_role("option", name=option, exact=True).click()


def _fill(page: Any, label: str, value: float) -> None:
    page.get_by_label(label, exact=True).fill(str(value))
    page.keyboard.press("Tab")


def _yaml(page: Any, words: str) -> Any:
    """Wait until the configuration says something, and read it."""
    page.wait_for_function(
        "words => document.querySelector('#plan-yaml .cm-content').innerText.includes(words)", arg=words
    )
    lines = page.locator("#plan-yaml .cm-line").all_inner_texts()
    return from_dict(read_yaml("\n".join(lines)))


def _plan(page: Any, epochs: int) -> Any:
    """Wait for a plan of so many epochs, and return what learns: a row for each part, a cell for each epoch."""
    page.wait_for_function(
        "epochs => { const plot = document.querySelector('#plan-map .js-plotly-plot');"
        " return plot && plot._fullData && plot._fullData.length && plot._fullData[1].x.length === epochs; }",
        arg=epochs,
    )
    return page.evaluate(
        "() => { const trace = document.querySelector('#plan-map .js-plotly-plot').data[1];"
        " return Object.fromEntries(trace.y.map((part, row) => [part, trace.z[row].map(rate => rate !== null)])); }"
    )


def test_plan_page_draws_what_learns_in_which_epoch_before_the_run(open_page: OpenPage) -> None:
    page = open_page()
    assert page.locator("#plan-map").count() == 0
    _choose_sample(page)
    assert _plan(page, 4)["embeddings"] == [False] * 4
    page.get_by_label("Progressive", exact=True).check()
    learns = _plan(page, 10)
    assert learns["head.topic"] == [True] * 10
    assert learns["layer.5"] == [False] * 2 + [True] * 8
    assert learns["embeddings"] == [False] * 6 + [True] * 4
    _fill(page, "Epochs", 5)
    page.locator("#plan-first .notes", has_text="5 epochs are too few").wait_for()
    page.locator("#plan-rest summary", has_text="Epoch by epoch").click()
    assert page.locator("#plan-rest table", has_text="parameters that learn").locator("tbody tr").count() == 5
    assert "Training rows in an epoch" in page.inner_text("#plan-rest")


def test_plan_page_keeps_each_head_and_shows_only_the_options_that_matter(open_page: OpenPage) -> None:
    page = open_page()
    _choose_sample(page)
    _open(page, "#advanced")
    _open(page, "#exchange")
    _choose(page, "#head-shape", "mlp")
    _choose(page, "#head", "sentiment")
    page.wait_for_function("() => document.querySelector('#head-shape input').value === 'linear'")
    _choose(page, "#head-loss", "focal")
    _fill(page, "Focal gamma", 1.5)
    config = _yaml(page, "focal_gamma: 1.5")
    assert config.tasks["topic"].head == "mlp"
    assert (config.tasks["sentiment"].loss, config.tasks["sentiment"].head) == ("focal", "linear")
    assert page.get_by_label("Alpha", exact=True).count() == 0
    _choose(page, "#weighting", "gradnorm")
    _fill(page, "Alpha", 0.5)
    page.locator("#weighting-cost", has_text="backward passes").wait_for()
    page.get_by_label("Easiest rows first", exact=True).check()
    _fill(page, "First share", 0.4)
    config = _yaml(page, "start: 0.4")
    assert config.training.weighting_options.alpha == 0.5
    page.click("#add-phase")
    page.locator("#phases [role=gridcell]", has_text="heads").first.wait_for()
    page.get_by_label("Progressive unfreezing", exact=True).check()
    page.locator("#both-plans", has_text="two ways to say the same").wait_for()
    page.click("#start")
    page.locator("[data-testid=toast-body]", has_text="two ways to say the same").first.wait_for()
    page.get_by_label("Progressive unfreezing", exact=True).uncheck()
    assert _yaml(page, "phases:").training.phases[0].learn == ("heads",)


def test_plan_page_is_filled_from_yaml_and_gives_it_back(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    _choose_sample(page)
    _open(page, "#exchange")
    page.locator("#yaml-pasted textarea").fill("training: {epoch: 3}")
    page.click("#yaml-apply")
    page.locator("#yaml-answer [role=alert]", has_text="Did you mean epochs?").wait_for()
    file = tmp_path / "earlier.yaml"
    file.write_text(CONFIG)
    page.locator("#yaml-load input[type=file], input[type=file][accept*=yaml]").first.set_input_files(file)
    page.locator("#yaml-answer", has_text="elsewhere.csv").wait_for()
    page.wait_for_function("() => document.querySelector('#preset label.selected').innerText === 'Progressive'")
    given, found = from_dict(read_yaml(CONFIG)), _yaml(page, "final_loss_weight: 0.25")
    assert found.training == given.training
    assert {name: found.tasks[name] for name in given.tasks} == given.tasks
    assert found.data.task_columns == ("topic", "sentiment")
    assert set(_plan(page, 10)) >= {"head.topic", "head.sentiment"}
    command = page.inner_text("#plan-command .cm-content")
    assert command.startswith("python -m mtl train --data data/sample.csv --set")
    assert "training.seed=7" in command


def test_plan_page_starts_from_a_checkpoint(open_page: OpenPage) -> None:
    page = open_page()
    _choose_sample(page)
    page.click("#start-from input")
    page.get_by_role("option").filter(has_text="starter").first.click()
    page.locator("#plan-first", has_text="It learns on from").wait_for()
    assert "Heads that are learnt on from there: topic, sentiment" in page.inner_text("#plan-first")
    page.click("#start-from input")
    page.get_by_role("option").filter(has_text="nothing").click()
    page.wait_for_function("() => !document.querySelector('#plan-first').innerText.includes('learns on')")


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_plan_page_fits_and_has_enough_contrast(open_page: OpenPage, width: int, dark: bool) -> None:
    page = open_page(width=width, height=900, dark=dark)
    _choose_sample(page)
    _open(page, "#advanced")
    _open(page, "#exchange")
    page.click("#add-phase")
    _choose(page, "#weighting", "pcgrad")
    page.locator("#weighting-cost", has_text="backward passes").wait_for()
    page.wait_for_timeout(600)  # colours fade in
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    rules = ["color-contrast", "label", "button-name", "aria-progressbar-name", "aria-input-field-name", "select-name"]
    found = Axe().run(page, options={"runOnly": rules})
    assert found.violations_count == 0, found.generate_report()

"""The named endpoints, as another program calls them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.browser.conftest import ROOT, Server

SAMPLE = ROOT / "data" / "sample.csv"
ENDPOINTS = {
    "/embed", "/similarity", "/search", "/topic", "/sentiment", "/entities", "/predict",
    "/inspect_csv", "/start_run", "/run_status", "/stop_run", "/resume_run", "/runs",
    "/run_report", "/delete_run",
}  # fmt: skip


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    """Connect to the server."""
    found = Client(server.url, verbose=False)
    yield found
    found.close()


def _wait(client: Client, run: dict[str, str], states: set[str]) -> dict[str, Any]:
    for _ in range(900):
        status = client.predict(run["run"], run["token"], api_name="/run_status")
        if status["state"] in states:
            return status
        time.sleep(0.2)
    pytest.fail(f"the run did not reach {states}")


def test_api_has_exactly_the_named_endpoints_and_each_says_what_it_does(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == ENDPOINTS
    assert all(endpoint.get("description") for endpoint in named.values())


def test_api_answers_with_the_shipped_checkpoint(client: Client) -> None:
    texts = ["The goalkeeper saved two penalties.", "Parliament votes on the pension bill."]
    assert [answer["label"] for answer in client.predict(texts, api_name="/topic")] == ["sports", "politics"]
    assert client.predict("We loved every minute.", api_name="/sentiment")[0]["label"] == "positive"
    answer = client.predict("We loved every minute of the concert.", api_name="/predict")
    assert set(answer) == {"topic", "sentiment", "entities"}
    assert sum(answer["topic"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert client.predict(texts, api_name="/embed")["shape"] == [2, 384]
    compared = client.predict(["I cannot log in."], ["The soup is cold.", "My password fails."], api_name="/similarity")
    assert compared["best"][0]["match"] == "My password fails."
    found = client.predict("trouble signing in", ["The soup is cold.", "My password fails."], 1, api_name="/search")
    assert [hit["index"] for hit in found] == [1]


def test_api_inspects_a_file(client: Client) -> None:
    found = client.predict(handle_file(SAMPLE), api_name="/inspect_csv")
    assert found["rows"] == 2250
    assert found["text_column"] == "text"
    assert set(found["tasks"]) == {"topic", "sentiment", "entities"}


def test_api_runs_to_the_end_and_the_new_checkpoint_answers(client: Client) -> None:
    config = {
        "training": {"preset": "frozen", "epochs": 1},
        "data": {"split": {"train": 0.2, "validation": 0.1, "test": 0.7}},
    }
    run = client.predict(handle_file(SAMPLE), config, api_name="/start_run")
    status = _wait(client, run, {"done", "failed", "stopped", "diverged", "interrupted"})
    assert status["state"] == "done", status
    assert set(status["test"]) == {"topic", "sentiment", "entities"}
    answer = client.predict("We loved it.", "", run["run"], run["token"], api_name="/sentiment")
    assert set(answer[0]["probabilities"]) == {"negative", "neutral", "positive"}


def test_api_stops_a_run_and_keeps_a_checkpoint(client: Client, server: Server) -> None:
    run = client.predict(handle_file(SAMPLE), {"training": {"epochs": 50}}, api_name="/start_run")
    for _ in range(900):
        if client.predict(run["run"], run["token"], api_name="/run_status")["step"] > 0:
            break
        time.sleep(0.2)
    client.predict(run["run"], run["token"], api_name="/stop_run")
    status = _wait(client, run, {"stopped", "failed"})
    assert status["state"] == "stopped"
    assert (server.runs / run["run"] / "best" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "endpoint", "sentence"),
    [
        (("",), "/topic", "Type a text first"),
        (("x", "weather"), "/topic", 'no task "weather"'),
        (("x", "", "nothing-here"), "/topic", "no such run"),
        (("x", "../../data"), "/predict", "no such run"),
        (("no-such-run", ""), "/run_status", "no such run"),
        ((["a" * 20_000],), "/embed", "at most 10,000"),
        ((["a", "", "b"],), "/embed", "Text 2 is empty"),
        ((["a", "b"],), "/predict", "Give one text"),
        (("x", ["topic"]), "/topic", "name of one task"),
    ],
)
def test_api_refuses_bad_input_in_one_sentence(
    client: Client, arguments: tuple[Any, ...], endpoint: str, sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence) as caught:
        client.predict(*arguments, api_name=endpoint)
    assert "Traceback" not in str(caught.value)


def test_api_refuses_a_wrong_configuration_by_the_field(client: Client) -> None:
    with pytest.raises(AppError, match=r"training\.epochs must be at least 1"):
        client.predict(handle_file(SAMPLE), {"training": {"epochs": 0}}, api_name="/start_run")


def test_api_never_serves_a_file_of_a_run(server: Server, client: Client) -> None:
    import httpx

    secret = next(path for path in server.runs.glob("*/config.yaml"))
    answer = httpx.get(f"{server.url}/gradio_api/file={secret}")
    assert answer.status_code in {403, 404}

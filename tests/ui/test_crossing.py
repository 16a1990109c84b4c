"""Eight strangers at once on one page: nobody gets what is another one's. `benchmarks/load.py` does it with 64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.abuse import GUESSED, guess, guessed_names
from benchmarks.load import Outcome, all_at_once, alone
from benchmarks.visitors import FREELY, Answer, Visitor
from tests.ui.server import Server, serving

CLIENTS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a shared page with the checkpoint that comes with the app."""
    with serving(tmp_path_factory.mktemp("crossing"), **FREELY) as found:
        yield found


@pytest.fixture
def visitors(server: Server) -> Iterator[list[Visitor]]:
    """Strangers, each with a finished run."""
    found = [Visitor(server, number) for number in range(CLIENTS)]
    for visitor in found:
        visitor.plant()
    yield found
    for visitor in found:
        visitor.http.close()


def test_visitors_get_at_once_what_they_got_alone(server: Server, visitors: list[Visitor]) -> None:
    """Compare results, plots and files of every kind of call, in another order for each visitor."""
    answers = [alone(visitor, visitors[(number + 1) % CLIENTS]) for number, visitor in enumerate(visitors)]
    kinds = [kind for kind in answers[0] if kind != "another's report"]
    assert len(kinds) == 11
    for kind in kinds:
        assert len({repr(answer[kind]) for answer in answers}) == CLIENTS, f"{kind} tells nobody apart"
    outcome = all_at_once(visitors, answers, len(kinds) + 1, starters=0)
    assert outcome.calls == CLIENTS * (len(kinds) + 1)
    assert (outcome.crossed, outcome.lost, dict(outcome.errors)) == ([], [], {})
    assert "Traceback" not in server.logged


def test_guessed_names_of_runs_are_answered_with_one_sentence(server: Server, visitors: list[Visitor]) -> None:
    real = [visitor.run.name for visitor in visitors if visitor.run]
    names = guessed_names(real, 40)
    assert len(set(names)) == 40
    assert guess(visitors[0], names[1:], real) == (7 * len(GUESSED) + 32, 0)
    assert [visitor.run.status.state for visitor in visitors if visitor.run] == ["done"] * CLIENTS
    assert guess(visitors[1], real[1:2], real) == (len(GUESSED), len(GUESSED)), "one's own run is answered"


def test_what_crosses_or_is_lost_is_counted(server: Server, visitors: list[Visitor]) -> None:
    mine, other = visitors[:2]
    outcome, wanted = Outcome(), Answer([f"{mine.mark} alone"])
    outcome.take(mine, "right", wanted, wanted)
    assert outcome == Outcome(calls=1)
    outcome.take(mine, "another's", Answer([f"{other.mark} alone"]), wanted)
    outcome.take(mine, "mixed", Answer([f"{mine.mark} and {other.mark}"]), wanted)
    outcome.take(mine, "changed", Answer([1.5]), Answer([1.25]))
    outcome.take(mine, "given away", Answer([{}]), Answer(None, "There is no such run."))
    outcome.take(mine, "lost", Answer(None), wanted)
    outcome.take(mine, "refused", Answer(None, "Too many."), wanted)
    assert outcome.crossed == ["another's", "mixed", "changed", "given away"]
    assert outcome.lost == ["lost"]
    assert dict(outcome.errors) == {"refused: Too many.": 1}

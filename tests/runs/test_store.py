from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.reading import read_table
from mtl.errors import CheckpointError, ConfigError, DataError, UserError
from mtl.runs.store import Run, RunStore, open_run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "checkpoints")


@pytest.fixture
def run(store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes) -> Run:
    return store.create(raw_config, read_table(tiny_csv_bytes), files=["my file.csv"])


def test_store_creates_a_private_folder_that_a_worker_can_start_from(run: Run, tiny_csv_bytes: bytes) -> None:
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.yaml",
        "data.csv",
        "reserve",
        "split.json",
        "status.json",
    ]
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert run.table().columns == read_table(tiny_csv_bytes).columns
    assert run.status.state == "queued"
    assert not run.status.is_final
    assert not run.has_checkpoint
    assert not run.stop_requested
    assert run.report() is None
    assert run.events() == ([], 0)


def test_store_keeps_the_resolved_configuration_and_the_split(run: Run, tiny_config: RunConfig) -> None:
    data = tiny_config.data.model_copy(update={"files": ("my file.csv",)})
    assert run.config == tiny_config.model_copy(update={"data": data})
    split = run.split()
    rows = [*split.train, *split.validation, *split.test]
    assert len(rows) == len(set(rows)) == 60
    assert run.table().headers == ("text", "topic", "mood")


def test_store_names_sort_by_time_and_cannot_be_guessed(
    store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(["20260102-030405", "20260102-030405", "20251231-235959"])
    monkeypatch.setattr("mtl.runs.store.time.strftime", lambda pattern, moment: next(times))
    names = [store.create(raw_config, read_table(tiny_csv_bytes)).name for _ in range(3)]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{19}", name) for name in names)
    assert sorted(names)[0] == names[2]
    assert [run.name for run in store.list()] == sorted(names, reverse=True)


@pytest.mark.parametrize(
    ("data", "wanted", "error"),
    [
        (b"text,topic\nhello there,a\n", [], DataError),
        (None, ["data.text_column=nothing"], DataError),
        (None, ["data.task_columns=nothing_such"], DataError),
        (None, ["data.split.group_column=nothing_such"], DataError),
        (None, ["data.split.column=nothing_such"], DataError),
        (None, ["tasks.nothing_such.head=mlp"], DataError),
        (None, ["data.split.near_duplicates=0.95"], ConfigError),
    ],
)
def test_store_creates_nothing_for_a_run_that_cannot_be(
    store: RunStore,
    raw_config: RunConfig,
    tiny_csv_bytes: bytes,
    data: bytes | None,
    wanted: list[str],
    error: type[UserError],
) -> None:
    with pytest.raises(error):
        store.create(override(raw_config, wanted), read_table(data or tiny_csv_bytes))
    assert not store.root.exists()
    assert store.list() == []


def test_store_that_cannot_be_written_says_which_variable_moves_it(
    tmp_path: Path, raw_config: RunConfig, tiny_csv_bytes: bytes
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="MTL_RUNS_DIR"):
        RunStore(tmp_path / "file" / "runs").create(raw_config, read_table(tiny_csv_bytes))


def test_store_lists_runs_only_the_shipped_one_last(store: RunStore, run: Run) -> None:
    for folder in ("starter/best", ".trash", "notes", "zz-other"):
        (store.root / folder).mkdir(parents=True)
    for folder in ("starter", ".trash", "zz-other"):
        (store.root / folder / "config.yaml").write_text("")
    (store.root / "file.txt").write_text("")
    assert [found.name for found in store.list()] == ["zz-other", run.name, "starter"]


def test_store_opens_a_run_by_its_name(store: RunStore, run: Run) -> None:
    assert store.open(run.name).path == run.path


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../checkpoints", "a/b", ".hidden", "nobody", "x" * 300, "a\0b", None, 3]
)
def test_store_says_the_same_of_any_name_that_is_no_run(store: RunStore, run: Run, name: str) -> None:
    (store.root / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"^There is no such run\.$"):
        store.open(name)


def test_store_does_not_open_a_run_by_a_path_around_it(store: RunStore, run: Run) -> None:
    for name in (f"../checkpoints/{run.name}", f"./{run.name}", f"{run.name}/", f"{run.name}\n", str(run.path)):
        with pytest.raises(CheckpointError):
            store.open(name)


def test_store_keeps_only_the_hash_of_the_owners_token(
    store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes
) -> None:
    run = store.create(raw_config, read_table(tiny_csv_bytes), token="the secret")
    assert run.owned_by("the secret")
    assert not run.owned_by("another")
    assert not run.owned_by("")
    assert all(b"the secret" not in path.read_bytes() for path in run.path.iterdir())


def test_store_run_without_an_owner_belongs_to_everyone(run: Run) -> None:
    assert run.owned_by("")
    assert run.owned_by("anything")


def test_store_status_goes_from_file_to_reader(run: Run) -> None:
    run.set_status("stopped", "finished", "Größe: 情感")
    again = Run(run.path).status
    assert (again.state, again.phase, again.reason, again.is_final) == ("stopped", "finished", "Größe: 情感", True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "done", "more": 1}'])
def test_store_status_that_cannot_be_read_is_an_interrupted_run(run: Run, content: str) -> None:
    (run.path / "status.json").write_text(content)
    assert run.status.state == "interrupted"
    assert run.status.is_final


def test_store_deletes_finished_runs_only(store: RunStore, run: Run) -> None:
    with pytest.raises(CheckpointError, match="stop it first"):
        store.delete(run)
    run.set_status("done", "finished")
    store.delete(run)
    assert store.list() == []
    assert not run.path.exists()


def test_store_does_not_delete_the_shipped_run(store: RunStore, run: Run) -> None:
    starter = Run(run.path.rename(store.root / "starter"))
    starter.set_status("done", "finished")
    with pytest.raises(CheckpointError, match="came with the app"):
        store.delete(starter)
    assert starter.path.is_dir()


def test_store_stop_is_a_file(run: Run) -> None:
    run.request_stop()
    run.request_stop()
    assert Run(run.path).stop_requested


def test_store_open_run_takes_a_path(run: Run, tmp_path: Path) -> None:
    assert open_run(str(run.path)).config == run.config
    with pytest.raises(CheckpointError, match="There is no run folder"):
        open_run(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"no config\.yaml"):
        open_run(tmp_path)

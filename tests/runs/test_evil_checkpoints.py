"""Checkpoints and encoders made to do harm: no code of theirs runs, and each is refused in one sentence.

Whoever makes such a folder can also make its manifest, so every attack here carries checksums that are right.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mtl.config import EncoderConfig, RunConfig
from mtl.config_text import load_config, to_yaml
from mtl.data.reading import read_table
from mtl.errors import CheckpointError, ConfigError, UserError
from mtl.inference.predictor import Predictor
from mtl.modeling.encoder import load_encoder
from mtl.runs.checkpoint import CONFIG, FORMAT, TASKS, WEIGHTS
from mtl.runs.manifest import MANIFEST, seal
from mtl.runs.starting import start_model
from mtl.runs.store import Run, RunStore, find_source

EVIL = "evil_module"


class Bomb:
    """What runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Touch the canary."""
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears when code of an attack runs; a module that makes it can be imported."""
    path = tmp_path / "canary"
    code = tmp_path / "code"
    code.mkdir()
    (code / f"{EVIL}.py").write_text(f"open({str(path)!r}, 'w').close()\nclass Evil:\n    pass\n")
    monkeypatch.syspath_prepend(code)
    return path


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Run:
    """A run to change."""
    path = tmp_path / "runs" / "victim"
    shutil.copytree(finished_run.path, path)
    return Run(path)


def reseal(run: Run, **changes: Any) -> None:
    """Write the manifest anew, as an attacker would."""
    manifest = json.loads((run.best / MANIFEST).read_text())
    values = {name: manifest[name] for name in ("base", "epoch", "step", "validated", "scores")}
    seal(run.best, {"format": FORMAT, **values, **changes})


def header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


def pickled(run: Run, canary: Path) -> None:
    (run.best / WEIGHTS).write_bytes(pickle.dumps(Bomb(canary)))


def torch_saved(run: Run, canary: Path) -> None:
    torch.save({"evil": Bomb(canary)}, run.best / WEIGHTS)


def zipped(run: Run, canary: Path) -> None:
    with zipfile.ZipFile(run.best / WEIGHTS, "w") as archive:
        archive.writestr(f"../../../../../../{canary}", "slipped")


def bin_instead(run: Run, canary: Path) -> None:
    (run.best / WEIGHTS).unlink()
    torch.save({"evil": Bomb(canary)}, run.best / "pytorch_model.bin")


def huge_header(run: Run, canary: Path) -> None:
    (run.best / WEIGHTS).write_bytes(struct.pack("<Q", 2**40) + b"{}")


def bomb_of_a_shape(run: Run, canary: Path) -> None:
    shape = '{"a": {"dtype": "F32", "shape": [131072, 131072], "data_offsets": [0, 68719476736]}}'
    (run.best / WEIGHTS).write_bytes(header(shape, b"\0" * 16))


def overlapping(run: Run, canary: Path) -> None:
    part = '{"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}'
    (run.best / WEIGHTS).write_bytes(header(f'{{"a": {part}, "b": {part}}}', b"\0" * 16))


def doubled_tensor(run: Run, canary: Path) -> None:
    part = '{"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}'
    (run.best / WEIGHTS).write_bytes(header(f'{{"a": {part}, "a": {part}}}', b"\0" * 16))


def deep_header(run: Run, canary: Path) -> None:
    (run.best / WEIGHTS).write_bytes(header('{"a":' * 50_000 + "1" + "}" * 50_000))


def rubbish_after(run: Run, canary: Path) -> None:
    weights = run.best / WEIGHTS
    weights.write_bytes(weights.read_bytes() + pickle.dumps(Bomb(canary)))


def other_shapes(run: Run, canary: Path) -> None:
    weights = run.best / WEIGHTS
    save_file({name: torch.zeros(3, 3, 3) for name in load_file(weights)}, weights)


def unknown_weights(run: Run, canary: Path) -> None:
    weights = run.best / WEIGHTS
    save_file(load_file(weights) | {"encoder.__class__": torch.zeros(1)}, weights)


def no_weights(run: Run, canary: Path) -> None:
    save_file({}, run.best / WEIGHTS)


def yaml_with_code(run: Run, canary: Path) -> None:
    (run.best / CONFIG).write_text(f'encoder: !!python/object/apply:os.system ["touch {canary}"]\n')


def yaml_bomb(run: Run, canary: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (run.best / CONFIG).write_text("\n".join(lines))


def deep_yaml(run: Run, canary: Path) -> None:
    (run.best / CONFIG).write_text("[" * 50_000)


def huge_yaml(run: Run, canary: Path) -> None:
    (run.best / CONFIG).write_text("#" * 2_000_000)


def deep_tasks(run: Run, canary: Path) -> None:
    (run.best / TASKS).write_text("[" * 100_000 + "]" * 100_000)


def tasks_of_another_kind(run: Run, canary: Path) -> None:
    (run.best / TASKS).write_text('{"topic": 1}')


def tasks_without_labels(run: Run, canary: Path) -> None:
    (run.best / TASKS).write_text('[{"name": "topic", "key": "topic", "kind": "classification", "labels": 5}]')


def tasks_with_a_path(run: Run, canary: Path) -> None:
    tasks = json.loads((run.best / TASKS).read_text())
    tasks[0]["key"] = "../../evil"
    (run.best / TASKS).write_text(json.dumps(tasks))


def tasks_not_json(run: Run, canary: Path) -> None:
    (run.best / TASKS).write_bytes(pickle.dumps(Bomb(canary)))


def tasks_of_others(run: Run, canary: Path) -> None:
    tasks = json.loads((run.best / TASKS).read_text())
    tasks[0]["name"] = "nobody"
    (run.best / TASKS).write_text(json.dumps(tasks))


def link_to_a_secret(run: Run, canary: Path) -> None:
    (run.best / WEIGHTS).unlink()
    (run.best / WEIGHTS).symlink_to("/etc/passwd")


WEIGHTS_AND_FILES: list[Callable[[Run, Path], None]] = [
    pickled, torch_saved, zipped, bin_instead, huge_header, bomb_of_a_shape, overlapping, doubled_tensor, deep_header,
    rubbish_after, other_shapes, unknown_weights, no_weights, yaml_with_code, yaml_bomb, deep_yaml, huge_yaml,
    link_to_a_secret,
]  # fmt: skip
TASK_FILES: list[Callable[[Run, Path], None]] = [
    deep_tasks, tasks_of_another_kind, tasks_without_labels, tasks_with_a_path, tasks_not_json, tasks_of_others,
]  # fmt: skip


def refused(run: Run, tiny_config: RunConfig, canary: Path) -> list[str]:
    """Load a run to predict with, and to learn on from; return what was said."""
    said = []
    config = tiny_config.model_copy(
        update={"training": tiny_config.training.model_copy(update={"start_from": run.name})}
    )
    for load in (
        lambda: Predictor.load(run.path),
        lambda: start_model(config, find_source(run.path.parent, run.name, None)),
    ):
        with pytest.raises(UserError) as caught:
            load()
        assert isinstance(caught.value, (CheckpointError, ConfigError))
        said.append(str(caught.value))
    assert not canary.exists(), "code of the checkpoint ran"
    return said


@pytest.mark.parametrize("attack", [*WEIGHTS_AND_FILES, *TASK_FILES], ids=lambda attack: attack.__name__)
def test_evil_checkpoint_is_refused_in_a_sentence_and_runs_no_code(
    run: Run, tiny_config: RunConfig, canary: Path, attack: Callable[[Run, Path], None]
) -> None:
    attack(run, canary)
    reseal(run)
    for sentence in refused(run, tiny_config, canary):
        assert "\n" not in sentence and len(sentence) < 500
        assert "root:" not in sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"format": 2, "format": 1}',
        '{"format": "../../x"}',
        '{"format": true, "base": {"sha256": "a"}, "scores": {}, "files": {}}',
        '{"format": 1e999}',
        '{"format": 2, "base": {"sha256": 5}, "scores": {}, "files": {}}',
        '{"format": 2, "base": {"sha256": "a"}, "scores": {}, "files": {"model.safetensors": {"sha256": null}}}',
        '{"format": 2, "base": {"sha256": "a"}, "scores": {}, "files": {"../../data.csv": {"sha256": "a"}}}',
    ],
)
def test_evil_manifest_is_refused_in_a_sentence(run: Run, tiny_config: RunConfig, canary: Path, text: str) -> None:
    (run.best / MANIFEST).write_text(text)
    for sentence in refused(run, tiny_config, canary):
        assert "\n" not in sentence and len(sentence) < 500


def test_checkpoint_that_was_not_touched_loads(run: Run, tiny_config: RunConfig) -> None:
    reseal(run)  # so what is refused above is refused for the attack
    assert Predictor.load(run.path).tasks


def with_module(folder: Path, canary: Path) -> None:
    parts = [{"idx": 0, "name": "0", "path": "", "type": f"{EVIL}.Evil"}]
    (folder / "modules.json").write_text(json.dumps(parts))


def with_command(folder: Path, canary: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "os.system"}]))


def _changed_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def _with_code(folder: Path, canary: Path) -> None:
    (folder / "modeling_evil.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Evil:\n    pass\n")


def with_auto_map(folder: Path, canary: Path) -> None:
    _with_code(folder, canary)
    auto = {name: "modeling_evil.Evil" for name in ("AutoModel", "AutoConfig", "AutoTokenizer")}
    _changed_config(folder, auto_map=auto, model_type="evil", architectures=["Evil"], trust_remote_code=True)


def with_tokenizer_code(folder: Path, canary: Path) -> None:
    _with_code(folder, canary)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    auto = {"AutoTokenizer": ["modeling_evil.Evil", "modeling_evil.Evil"]}
    path.write_text(json.dumps(config | {"auto_map": auto, "tokenizer_class": "Evil"}))


def with_attention_code(folder: Path, canary: Path) -> None:
    _with_code(folder, canary)
    _changed_config(folder, _attn_implementation_internal=f"{EVIL}/kernel:evil", attn_implementation=f"{EVIL}/kernel")


def with_pickled_weights(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"evil": Bomb(canary)}, folder / "pytorch_model.bin")


def with_plain_pickle(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(canary)))


def with_pickle_named_safetensors(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(canary)))


def with_enormous_layers(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**40))


ENCODERS: list[tuple[Callable[[Path, Path], None], bool]] = [
    (with_module, True), (with_command, True), (with_auto_map, True), (with_pickle_named_safetensors, True),
    (with_enormous_layers, True),
    (with_tokenizer_code, False), (with_attention_code, False),  # passed over or refused, as the library sees fit
]  # fmt: skip
PICKLES: list[tuple[Callable[[Path, Path], None], bool]] = [(with_pickled_weights, True), (with_plain_pickle, True)]
PICKLES_TOO = [
    pytest.param(*one, marks=pytest.mark.xfail(reason="refused, but not in a sentence yet", strict=True))
    for one in PICKLES
]


@pytest.mark.parametrize(
    ("attack", "is_refused"), [*ENCODERS, *PICKLES], ids=lambda value: getattr(value, "__name__", "")
)
@pytest.mark.filterwarnings("ignore")
def test_evil_encoder_runs_no_code(
    tiny_encoder_folder: Path, tmp_path: Path, canary: Path, attack: Callable[[Path, Path], None], is_refused: bool
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_folder, folder)
    attack(folder, canary)
    said = ""
    try:
        load_encoder(str(folder))
    except CheckpointError as error:
        said = str(error)
    assert not canary.exists(), "code of the encoder ran"
    assert "\n" not in said and len(said) < 500
    assert said or not is_refused


def test_evil_encoder_named_by_a_checkpoint_runs_no_code(
    run: Run, tiny_config: RunConfig, tiny_encoder_folder: Path, canary: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_folder, folder)
    with_module(folder, canary)
    config = load_config(run.best / CONFIG).model_copy(update={"encoder": EncoderConfig(name=str(folder))})
    (run.best / CONFIG).write_text(to_yaml(config))
    reseal(run)
    assert all("cannot be loaded" in sentence for sentence in refused(run, tiny_config, canary))


def archive(canary: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as found:
        found.writestr(f"../../../../../..{canary}", "slipped")
        found.writestr("best/manifest.json", "{}")
    return buffer.getvalue()


def test_an_archive_is_neither_a_run_nor_a_table(canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    path.write_bytes(archive(canary))
    with pytest.raises(ConfigError, match=r"training\.start_from"):
        find_source(tmp_path, str(path), None)
    with pytest.raises(UserError) as caught:
        read_table(path.read_bytes())
    assert "\n" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["..", "../runs/victim", "a/../victim", "/etc", "victim\0", "~root", "", "x" * 5000])
def test_a_store_opens_no_path(run: Run, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"There is no such run\."):
        RunStore(run.path.parent).open(name)

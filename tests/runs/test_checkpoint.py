from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertModel

from mtl.config import RunConfig, TaskConfig, task_specs
from mtl.config_text import override
from mtl.data.batching import pad, tokenise
from mtl.errors import CheckpointError
from mtl.inference.predictor import Predictor
from mtl.modeling.encoder import encoder_sha256
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.runs.checkpoint import FORMAT, Made, load_checkpoint, read_checkpoint_manifest, save_checkpoint
from mtl.runs.files import json_text
from mtl.training.components import components, frozen_parts, parameter_names

TEXTS = ["snow", "the team was great today", "the soup was awful, they said"]
TEMPERATURES = {"heads.topic.temperature", "heads.mood.temperature"}
SCORES = {"topic": {"accuracy": 0.5, "macro_f1": 0.25}}
Make = Callable[..., tuple[Path, MultiTaskModel, RunConfig]]

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"


@pytest.fixture
def make(tiny_config: RunConfig, tmp_path: Path) -> Make:
    """Build a model, move what learns away from its start as training would, and save it."""

    def make(*settings: str, config: RunConfig | None = None) -> tuple[Path, MultiTaskModel, RunConfig]:
        config = override(config or tiny_config, list(settings))
        model = build_model(config, task_specs(config))
        base = encoder_sha256(model.encoder)
        parts = components(model)
        model.changed = frozenset(parts) - frozen_parts(parts, config, model.tasks)
        with torch.no_grad():
            for name in model.changed:
                for parameter in parts[name].parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            for number, key in enumerate(model.heads):
                model.head(key).temperature.fill_(1.5 + number)
        save_checkpoint(tmp_path / "best", model, config, base, Made(2, 12, True, SCORES))
        return tmp_path / "best", model.eval(), config

    return make


@torch.no_grad()
def logits(model: MultiTaskModel) -> dict[str, Tensor]:
    tokenizer = model.encoder.tokenizer
    return model(pad(tokenise(TEXTS, tokenizer, model.encoder.max_seq_length), tokenizer))


def assert_same_answers(left: MultiTaskModel, right: MultiTaskModel) -> None:
    expected = logits(left)
    found = logits(right)
    assert list(found) == list(expected)
    assert all(torch.equal(values, expected[key]) for key, values in found.items())


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "attention"])
@pytest.mark.parametrize("frozen", ["nothing", "embeddings", "encoder", "everything", "head.topic"])
def test_checkpoint_gives_the_same_logits_after_save_and_load(make: Make, pooling: str, frozen: str) -> None:
    folder, model, config = make(f"encoder.pooling={pooling}", f"training.freeze={frozen}")
    loaded, loaded_config, _ = load_checkpoint(folder)
    assert_same_answers(model, loaded)
    assert loaded_config == config
    assert loaded.tasks == model.tasks
    assert not loaded.training


def test_checkpoint_keeps_temperatures_and_what_ever_learnt(make: Make) -> None:
    folder, model, _ = make("training.freeze=embeddings")
    loaded, _, _ = load_checkpoint(folder)
    assert [loaded.head(key).temperature.item() for key in loaded.heads] == [1.5, 2.5]
    assert loaded.changed == model.changed == {"layer.0", "layer.1", "head.topic", "head.mood"}


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_checkpoint_of_every_format_answers_as_it_did(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each format there is one in the fixtures, made by the code of its time, with what it said then."""
    monkeypatch.chdir(GOLDEN.parents[2])  # the base encoder is named relative to it
    folder = GOLDEN / f"format-{version}"
    assert read_checkpoint_manifest(folder / "best")["format"] == version
    said = read_json(folder / "said.json")
    embeddings, answers = Predictor.load(folder).run(said["texts"])
    assert embeddings == pytest.approx(np.array(said["embeddings"]), abs=1e-6)
    for ours, theirs in zip(answers, said["answers"], strict=True):
        assert {task: pytest.approx(answer.probabilities, abs=1e-6) for task, answer in ours.items()} == theirs


def test_checkpoint_holds_projection_layer_norm_and_a_deeper_head(make: Make) -> None:
    folder, model, _ = make(
        "encoder.projection=6",
        "encoder.layer_norm=true",
        "encoder.normalize=false",
        "encoder.max_length=16",
        "tasks.mood.head=mlp",
        "training.freeze=everything",
    )
    loaded, _, _ = load_checkpoint(folder)
    assert_same_answers(model, loaded)
    assert loaded.encoder.max_seq_length == 16


@pytest.mark.parametrize(
    ("frozen", "parts"),
    [
        ("nothing", {"embeddings", "layer.0", "layer.1", "head.topic", "head.mood"}),
        ("embeddings", {"layer.0", "layer.1", "head.topic", "head.mood"}),
        ("embeddings,layer.0", {"layer.1", "head.topic", "head.mood"}),
        ("encoder", {"head.topic", "head.mood"}),
        ("everything", {"head.topic", "head.mood"}),
        ("layer.1,head.mood", {"embeddings", "layer.0", "head.topic", "head.mood"}),
    ],
)
def test_checkpoint_holds_only_what_learnt_and_what_is_new(make: Make, frozen: str, parts: set[str]) -> None:
    folder, model, _ = make(f"training.freeze={frozen}")
    assert set(load_file(folder / "model.safetensors")) == {*parameter_names(model, parts), *TEMPERATURES}


def test_checkpoint_always_holds_new_parts_of_the_encoder(make: Make) -> None:
    folder, model, _ = make("encoder.pooling=attention", "encoder.projection=4", "training.freeze=everything")
    parts = set(components(model)) - {"embeddings", "layer.0", "layer.1"}
    assert {"pooling", "projection"} < parts
    assert set(load_file(folder / "model.safetensors")) == {*parameter_names(model, parts), *TEMPERATURES}


def test_checkpoint_is_four_readable_files(make: Make) -> None:
    folder, model, _ = make()
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "manifest.json",
        "model.safetensors",
        "tasks.json",
    ]
    manifest = read_checkpoint_manifest(folder)
    assert (manifest["epoch"], manifest["step"], manifest["validated"], manifest["scores"]) == (2, 12, True, SCORES)
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    assert [task["name"] for task in tasks] == [task.name for task in model.tasks]


def test_checkpoint_of_the_same_weights_is_the_same_files(make: Make) -> None:
    folder, model, config = make()
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    base = read_checkpoint_manifest(folder)["base"]["sha256"]
    save_checkpoint(folder, model, config, base, Made(2, 12, True, SCORES))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_checkpoint_takes_the_place_of_an_older_one(make: Make) -> None:
    folder, model, config = make()
    with torch.no_grad():
        model.heads["topic"].layers[1].bias.add_(1.0)
    save_checkpoint(folder, model, config, read_checkpoint_manifest(folder)["base"]["sha256"], Made(3, 18, False, {}))
    loaded, _, manifest = load_checkpoint(folder)
    assert_same_answers(model, loaded)
    assert (manifest["epoch"], manifest["validated"]) == (3, False)


def test_checkpoint_that_cannot_be_written_leaves_the_older_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, model, config = make()
    first = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mtl.runs.checkpoint.write_json", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(folder, model, config, "0" * 64, Made(3, 18, True, {}))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_checkpoint_keeps_odd_task_names_apart(make: Make, tiny_config: RunConfig) -> None:
    names = ["type", "a.b", "a/b", "a b", "情感", "Größe (cm)", "train"]
    tasks = {name: TaskConfig(labels=("x", "01", "Ü,\"'")) for name in names}
    folder, model, _ = make(config=tiny_config.model_copy(update={"tasks": tasks}))
    loaded, config, _ = load_checkpoint(folder)
    assert_same_answers(model, loaded)
    assert [task.name for task in loaded.tasks] == list(config.tasks) == names
    assert all(task.labels == ("x", "01", "Ü,\"'") for task in loaded.tasks)
    assert len({task.key for task in loaded.tasks}) == len(names)


def test_checkpoint_of_an_encoder_saved_without_its_pooler(
    make: Make, tiny_config: RunConfig, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    """Its pooler is drawn anew at every load; that must not make it another encoder."""
    folder = tmp_path / "no-pooler"
    shutil.copytree(tiny_encoder_folder, folder)
    saved = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in saved.items() if not name.startswith("pooler")}
    assert len(kept) < len(saved)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint, model, _ = make(f"encoder.name={folder}")
    torch.manual_seed(99)
    assert_same_answers(model, load_checkpoint(checkpoint)[0])


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("name", ["model.safetensors", "tasks.json", "config.yaml"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing"])
def test_checkpoint_that_is_damaged_is_refused(make: Make, name: str, damage: str) -> None:
    file = make()[0] / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    content = {"flipped": bytes(data), "truncated": file.read_bytes()[:-7], "longer": file.read_bytes() + b"\0"}
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[damage])
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(file.parent)


def rewrite(folder: Path, **values: Any) -> None:
    """Change a manifest as someone would who knows how to seal it again."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(values)
    changed = {name: value for name, value in manifest.items() if value is not None and name != "sha256"}
    sealed = changed | {"sha256": hashlib.sha256(json_text(changed).encode()).hexdigest()}
    (folder / "manifest.json").write_text(json_text(sealed))


@pytest.mark.parametrize("version", [FORMAT + 1, 0, "1", {}])
def test_checkpoint_of_another_format_is_refused(make: Make, version: object) -> None:
    folder = make()[0]
    # what another format has beside its number is not ours to know
    (folder / "manifest.json").write_text(json.dumps({"format": version, "content": "new"}))
    with pytest.raises(CheckpointError, match=f"this version reads {FORMAT} and older ones"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", "{}", '{"format": 1}', '{"format": 1, "files": []}', "\xff"]
)
def test_checkpoint_with_a_damaged_manifest_is_refused(make: Make, content: str) -> None:
    folder = make()[0]
    (folder / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="no readable manifest"):
        load_checkpoint(folder)


@pytest.mark.parametrize("field", ["base", "files", "scores"])
def test_checkpoint_with_half_a_manifest_is_refused(make: Make, field: str) -> None:
    folder = make()[0]
    rewrite(folder, **{field: None})
    with pytest.raises(CheckpointError, match="no readable manifest"):
        load_checkpoint(folder)


@pytest.mark.parametrize("files", [{}, {"model.safetensors": None}, {"model.safetensors": "abc"}])
def test_checkpoint_whose_manifest_knows_no_checksum_is_refused(make: Make, files: dict[str, Any]) -> None:
    folder = make()[0]
    rewrite(folder, files=files)
    with pytest.raises(CheckpointError, match="checksum does not match"):
        load_checkpoint(folder)


def test_checkpoint_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(tmp_path)


@pytest.fixture
def other_base(tiny_encoder_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder to be changed after a checkpoint was made on it."""
    return Path(shutil.copytree(tiny_encoder_folder, tmp_path / "base"))


def test_checkpoint_on_another_base_encoder_is_refused(make: Make, other_base: Path) -> None:
    folder = make(f"encoder.name={other_base}", "training.freeze=encoder")[0]
    torch.manual_seed(7)
    config = BertConfig.from_pretrained(other_base)
    BertModel(config).save_pretrained(other_base)
    with pytest.raises(CheckpointError, match="trained on another version of"):
        load_checkpoint(folder)


def test_checkpoint_without_its_base_encoder_says_what_is_missing(make: Make, other_base: Path) -> None:
    folder = make(f"encoder.name={other_base}")[0]
    shutil.rmtree(other_base)
    with pytest.raises(CheckpointError, match=r"There is no folder .*base"):
        load_checkpoint(folder)


def resave(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the weights and make the checksums right again."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    manifest = read_json(folder / "manifest.json")
    data = (folder / "model.safetensors").read_bytes()
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewrite(folder, files=manifest["files"] | {"model.safetensors": entry})


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_checkpoint_that_lacks_a_head_is_refused(make: Make) -> None:
    folder = make()[0]
    resave(folder, lambda state: state.pop("heads.mood.layers.1.bias"))
    with pytest.raises(CheckpointError, match=r"lacks the weights heads\.mood\.layers\.1\.bias"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["heads.mood.layers.1.bias", "heads.more.layers.1.bias"])
def test_checkpoint_that_does_not_fit_its_model_is_refused(make: Make, name: str) -> None:
    folder = make()[0]
    resave(folder, lambda state: state.update({name: torch.zeros(9)}))
    with pytest.raises(CheckpointError, match=f"does not fit its encoder: {name}"):
        load_checkpoint(folder)

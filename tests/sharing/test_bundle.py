from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F

from mtl.config import RunConfig, task_specs
from mtl.config_text import load_config, override
from mtl.inference.predictor import Predictor
from mtl.modeling.multitask import build_model
from mtl.runs.store import Run
from mtl.sharing import bundle
from mtl.sharing.bundle import ATTENTION_NOTE, HEADS_NOTE, export_bundle

TEXTS = ["snow", "the team was great today", "the soup was awful and the people were not happy with it " * 9]
Export = Callable[[Predictor], Path]


@pytest.fixture(scope="module")
def predictor(finished_run: Run) -> Predictor:
    return Predictor.load(finished_run.path)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Export a predictor and unpack the zip."""

    def export(predictor: Predictor) -> Path:
        export_bundle(predictor, tmp_path / "out.zip", "my-run")
        with zipfile.ZipFile(tmp_path / "out.zip") as archive:
            archive.extractall(tmp_path / "unpacked")
        return tmp_path / "unpacked" / "my-run"

    return export


@pytest.fixture
def make(tiny_config: RunConfig) -> Callable[..., Predictor]:
    """Make a predictor of fresh weights with some settings."""

    def make(*settings: str) -> Predictor:
        config = override(tiny_config, list(settings))
        model = build_model(config, task_specs(config))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return Predictor(model, config, {"scores": {}})

    return make


def opened(folder: Path) -> SentenceTransformer:
    """Open the folder as its README says, on the CPU."""
    return SentenceTransformer(str(folder), device="cpu")


def test_bundle_opens_as_a_sentence_transformer(predictor: Predictor, export: Export) -> None:
    encoder = opened(export(predictor))
    np.testing.assert_allclose(encoder.encode(TEXTS), predictor.embed(TEXTS), atol=1e-6)
    assert encoder.max_seq_length == predictor.model.encoder.max_seq_length


@pytest.mark.parametrize(
    "settings",
    [
        ["encoder.pooling=max", "encoder.normalize=false"],
        ["encoder.pooling=cls", "encoder.max_length=10"],
        ["encoder.projection=6", "encoder.layer_norm=true"],
        ["encoder.projection=6", "encoder.normalize=false"],
    ],
    ids=" ".join,
)
def test_bundle_keeps_every_part_of_the_encoder(
    make: Callable[..., Predictor], export: Export, settings: list[str]
) -> None:
    predictor = make(*settings)
    np.testing.assert_allclose(opened(export(predictor)).encode(TEXTS), predictor.embed(TEXTS), atol=1e-6)


def test_bundle_readme_reproduces_the_predicted_labels(
    predictor: Predictor, export: Export, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(predictor)
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 2
    code = "\n".join(snippets)
    assert '["a sentence"]' in code
    monkeypatch.chdir(folder)
    exec(compile(code.replace('["a sentence"]', repr(TEXTS)), "README.md", "exec"), {})
    answers = predictor.predict(TEXTS)
    expected = [f"{task.name} {[answer[task.name].label for answer in answers]}" for task in predictor.tasks]
    assert capsys.readouterr().out.splitlines() == expected


def test_bundle_holds_a_deeper_head_whole(make: Callable[..., Predictor], export: Export) -> None:
    predictor = make("tasks.topic.head=mlp")
    heads = {
        name: torch.from_numpy(value) for name, value in load_file(export(predictor) / "heads.safetensors").items()
    }
    first, second = sorted({name.rpartition(".")[0] for name in heads if name.startswith("topic.")})
    x = torch.from_numpy(predictor.embed(TEXTS))
    hidden = F.gelu(x @ heads[f"{first}.weight"].T + heads[f"{first}.bias"])
    logits = hidden @ heads[f"{second}.weight"].T + heads[f"{second}.bias"]
    expected = [list(answer["topic"].probabilities.values()) for answer in predictor.predict(TEXTS)]
    torch.testing.assert_close(logits.softmax(-1), torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_bundle_describes_itself(predictor: Predictor, export: Export) -> None:
    folder = export(predictor)
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    assert [(task["name"], tuple(task["labels"])) for task in tasks] == [(t.name, t.labels) for t in predictor.tasks]
    config = load_config(folder / "run_config.yaml")
    assert (config.training, config.tasks) == (predictor.config.training, predictor.config.tasks)
    assert config.encoder.name == Path(predictor.config.encoder.name).name, "no path of the machine it was made on"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(readme.split("---\n")[1])
    assert front["library_name"] == "sentence-transformers"
    for task, scores in predictor.manifest["scores"].items():
        classes = len(next(t.labels for t in predictor.tasks if t.name == task))
        assert f"| {task} | {classes} | {scores['accuracy']:.3f} | {scores['macro_f1']:.3f} |" in readme
    assert HEADS_NOTE in readme
    assert ATTENTION_NOTE not in readme


def test_bundle_claims_no_score_that_was_not_measured(make: Callable[..., Predictor], export: Export) -> None:
    assert "| topic | 3 | not measured | not measured |" in (export(make()) / "README.md").read_text(encoding="utf-8")


def test_bundle_names_a_local_base_encoder_without_its_path(predictor: Predictor, export: Export) -> None:
    readme = (export(predictor) / "README.md").read_text(encoding="utf-8")
    assert "the local folder tiny-bert" in readme
    assert predictor.config.encoder.name not in readme


def test_bundle_links_a_base_encoder_of_the_hub(make: Callable[..., Predictor], export: Export) -> None:
    predictor = make()
    name = "sentence-transformers/all-MiniLM-L6-v2"
    predictor.config = override(predictor.config, [f"encoder.name={name}"])
    readme = (export(predictor) / "README.md").read_text(encoding="utf-8")
    assert f"[{name}](https://huggingface.co/{name})" in readme
    assert yaml.safe_load(readme.split("---\n")[1])["base_model"] == name


def test_bundle_says_what_sentence_transformers_cannot_express(
    make: Callable[..., Predictor], export: Export, tmp_path: Path
) -> None:
    assert export_bundle(make(), tmp_path / "plain.zip", "run") == [HEADS_NOTE]
    predictor = make("encoder.pooling=attention", "encoder.projection=5", "encoder.layer_norm=true")
    assert export_bundle(predictor, tmp_path / "attention.zip", "run") == [HEADS_NOTE, ATTENTION_NOTE]
    folder = export(predictor)
    assert ATTENTION_NOTE in (folder / "README.md").read_text(encoding="utf-8")
    # it opens, with the mean; and nothing of what was trained is lost
    assert opened(folder).encode(TEXTS).shape == (3, 16)
    saved = load_file(folder / "pooling.safetensors")
    state = predictor.model.encoder.state_dict()
    names = {"pooling": "1", "projection": "2", "layer_norm": "3"}
    for name, value in saved.items():
        part, _, weight = name.partition(".")
        np.testing.assert_array_equal(value, state[f"{names[part]}.{weight}"].numpy())
    assert {name.partition(".")[0] for name in saved} == set(names)


def test_bundle_holds_no_pickle_and_one_folder(predictor: Predictor, tmp_path: Path) -> None:
    export_bundle(predictor, tmp_path / "deep" / "out.zip", "my-run")
    with zipfile.ZipFile(tmp_path / "deep" / "out.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert all(name.startswith("my-run/") for name in names)
    assert {Path(name).suffix for name in names} <= {".json", ".safetensors", ".yaml", ".md", ".txt"}
    assert "my-run/heads.safetensors" in names


def test_bundle_that_fails_leaves_the_older_one(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.zip").write_bytes(b"older")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.zipfile.ZipFile, "write", full)
    with pytest.raises(OSError, match="No space"):
        export_bundle(predictor, tmp_path / "out.zip", "my-run")
    assert (tmp_path / "out.zip").read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.zip"]

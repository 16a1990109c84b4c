from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
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
from tests.inference import entity_cases
from tests.inference.entity_cases import tagging

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


def printed(folder: Path, texts: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the README's snippets for some texts, where only the bundle is; return what they print."""
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    code = "\n".join(snippets)
    assert '["a sentence"]' in code
    assert not re.search(r"\bmtl\b", "\n".join(line for line in code.splitlines() if "import" in line))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "entities", raising=False)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code.replace('["a sentence"]', repr(texts)), "README.md", "exec"), {})
    monkeypatch.delitem(sys.modules, "entities", raising=False)
    return out.getvalue().splitlines()


def answered(predictor: Predictor, texts: Sequence[str]) -> list[str]:
    """Return what the README's snippets should print."""
    answers = predictor.predict(texts)
    classes = [task.name for task in predictor.tasks if task.kind == "classification"]
    lines = [f"{name} {[answer[name].label for answer in answers]}" for name in classes]
    for name in (task.name for task in predictor.tasks if task.kind == "token_classification"):
        for text, answer in zip(texts, answers, strict=True):
            lines.append(f"{name} {[(text[e.start : e.end], e.label) for e in answer[name].entities]}")
    return lines


@pytest.mark.usefixtures("no_network")
def test_bundle_readme_reproduces_the_predicted_labels(
    predictor: Predictor, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(predictor)
    assert not (folder / "entities.py").exists()
    assert "Entities" not in (folder / "README.md").read_text(encoding="utf-8")
    assert printed(folder, TEXTS, monkeypatch) == answered(predictor, TEXTS)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("classes", [True, False], ids=["both kinds", "entities alone"])
def test_bundle_readme_finds_the_entities_that_the_heads_find(
    tiny_config: RunConfig, export: Export, monkeypatch: pytest.MonkeyPatch, classes: bool
) -> None:
    tagger = tagging(tiny_config, classes=classes)
    texts = [*entity_cases.TEXTS, *TEXTS, 'they said "Anna", (Rome) or x.,', "日本のソニー株式会社 Köln's"]
    expected = answered(tagger, texts)
    assert sum(line.count("(") for line in expected) > 30, "the premise needs entities"
    folder = export(tagger)
    assert ("A class for each text" in (folder / "README.md").read_text(encoding="utf-8")) == classes
    assert printed(folder, texts, monkeypatch) == expected


def test_bundle_readme_gives_the_confidence_of_every_entity(
    tiny_config: RunConfig, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger = tagging(tiny_config)
    folder = export(tagger)
    readme = folder / "README.md"
    code = readme.read_text(encoding="utf-8")
    readme.write_text(code.replace('(text[one["start"] : one["end"]], one["label"])', 'round(one["confidence"], 4)'))
    texts = entity_cases.TEXTS
    found = [[e.confidence for e in answer["names"].entities] for answer in tagger.predict(texts)]
    lines = [line.removeprefix("names ") for line in printed(folder, texts, monkeypatch) if line.startswith("names ")]
    assert [ast.literal_eval(line) for line in lines] == [pytest.approx(row, abs=2e-4) for row in found]


def test_bundle_keeps_the_temperature_of_every_head(make: Callable[..., Predictor], export: Export) -> None:
    predictor = make()
    for number, task in enumerate(predictor.tasks):
        predictor.model.head(task.key).temperature.fill_(1.5 + number)
    saved = load_file(export(predictor) / "heads.safetensors")
    assert {name: float(value) for name, value in saved.items() if name.endswith(".temperature")} == {
        f"{task.key}.temperature": 1.5 + number for number, task in enumerate(predictor.tasks)
    }


def test_bundle_holds_a_deeper_head_whole(make: Callable[..., Predictor], export: Export) -> None:
    predictor = make("tasks.topic.head=mlp")
    predictor.model.head("topic").temperature.fill_(0.7)
    saved = load_file(export(predictor) / "heads.safetensors")
    heads = {name: torch.from_numpy(value) for name, value in saved.items()}
    first, second = sorted({name.rpartition(".")[0] for name in heads if name.startswith("topic.layers.")})
    x = torch.from_numpy(predictor.embed(TEXTS))
    hidden = F.gelu(x @ heads[f"{first}.weight"].T + heads[f"{first}.bias"])
    logits = hidden @ heads[f"{second}.weight"].T + heads[f"{second}.bias"]
    expected = [list(answer["topic"].probabilities.values()) for answer in predictor.predict(TEXTS)]
    torch.testing.assert_close((logits / 0.7).softmax(-1), torch.tensor(expected), atol=1e-5, rtol=1e-4)


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
    assert front["tags"] == ["sentence-transformers", "multi-task-learning", "text-classification"]
    for task, scores in predictor.manifest["scores"].items():
        classes = len(next(t.labels for t in predictor.tasks if t.name == task))
        shown = f"macro F1 {scores['macro_f1']:.3f}, accuracy {scores['accuracy']:.3f}, "
        assert f"| {task} | one of {classes} classes | {shown}" in readme
    assert HEADS_NOTE in readme
    assert ATTENTION_NOTE not in readme


def test_bundle_claims_no_score_that_was_not_measured(make: Callable[..., Predictor], export: Export) -> None:
    readme = (export(make()) / "README.md").read_text(encoding="utf-8")
    assert "| topic | one of 3 classes | not measured |" in readme


def test_bundle_names_the_score_that_counts_first_by_the_kind_of_head(tiny_config: RunConfig, export: Export) -> None:
    tagger = tagging(override(tiny_config, ["tasks.topic.main_score=accuracy"]))
    tagger.manifest["scores"] = {
        "names": {"entity_precision": 0.5, "entity_recall": 0.25, "entity_f1": 1 / 3},
        "topic": {"macro_f1": 0.5, "accuracy": 0.75},
    }
    readme = (export(tagger) / "README.md").read_text(encoding="utf-8")
    assert "| names | entities of 3 types | entity F1 0.333, entity precision 0.500, entity recall 0.250 |" in readme
    assert "| topic | one of 3 classes | accuracy 0.750, macro F1 0.500 |" in readme
    assert "| places | entities of 1 type | not measured |" in readme, "a head kept from an earlier run"
    tags = yaml.safe_load(readme.split("---\n")[1])["tags"]
    assert tags[2:] == ["text-classification", "token-classification"]


def test_bundle_configuration_has_every_head_and_no_path_of_the_run_before(
    tiny_config: RunConfig, export: Export, tmp_path: Path
) -> None:
    tagger = tagging(override(tiny_config, [f"training.start_from={tmp_path / 'earlier-run'}"]))
    folder = export(tagger)
    config = load_config(folder / "run_config.yaml")
    assert config.tasks == tagger.config.tasks
    assert list(config.tasks) == [task.name for task in tagger.tasks] == ["topic", "mood", "names", "places"]
    assert config.training.start_from == "earlier-run"
    for file in folder.rglob("*.*"):
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


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

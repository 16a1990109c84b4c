from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from mtl.errors import CheckpointError
from mtl.inference import frozen as module
from mtl.inference.frozen import frozen_embeddings
from mtl.modeling.encoder import load_encoder
from mtl.settings import settings

TEXTS = ["snow", "the team was great today", "snow", "", "été 🎈", "fog\nand\0heat", "rain and wind " * 40]


@pytest.fixture
def encoder(tiny_encoder_folder: Path) -> str:
    return str(tiny_encoder_folder)


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if an encoder is loaded."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(module, "load_encoder", refuse)


def embed(texts: list[str], encoder: str, cache: Path) -> np.ndarray:
    """Run to the end."""
    return run(frozen_embeddings(texts, encoder, cache))[1]


def run(steps: Generator[tuple[int, int], None, np.ndarray]) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Run to the end: the progress on the way, and the result."""
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def kept(cache: Path) -> list[Path]:
    """List what lies in the cache, temporary files too."""
    return sorted((cache / "embeddings").iterdir()) if (cache / "embeddings").exists() else []


def test_frozen_embeddings_are_those_of_the_encoder(encoder: str, tmp_path: Path) -> None:
    found = embed(TEXTS[:5], encoder, tmp_path)
    expected = load_encoder(encoder).encode(TEXTS[:5])
    assert (found.shape, found.dtype) == ((5, 16), np.float32)
    assert (1 - (found * expected).sum(axis=1)).max() < 1e-3
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_frozen_equal_texts_are_embedded_once(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    tokenise = module.tokenise
    monkeypatch.setattr(module, "tokenise", lambda texts, *rest: seen.extend(texts) or tokenise(texts, *rest))
    texts = ["snow", "rain", "snow", "rain", "snow"]
    told, found = run(frozen_embeddings(texts, encoder, tmp_path))
    assert sorted(seen) == ["rain", "snow"]
    assert (found[0] == found[2]).all()
    assert (found[0] != found[1]).any()
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)


def test_frozen_what_was_computed_is_read_again_to_the_bit(
    encoder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = embed(TEXTS, encoder, tmp_path)
    (file,) = kept(tmp_path)
    request.getfixturevalue("no_encoder")
    assert embed(TEXTS, encoder, tmp_path).tobytes() == first.tobytes()
    shuffled = [6, 1, 5, 0, 3, 3, 2, 4]
    again = embed([TEXTS[row] for row in shuffled], encoder, tmp_path)
    assert again.tobytes() == first[shuffled].tobytes()  # neither the order nor copies make it another table
    again[0] = 0  # the result is the caller's own
    assert kept(tmp_path) == [file]


def test_frozen_computing_anew_gives_the_same_bits(encoder: str, tmp_path: Path) -> None:
    first = embed(TEXTS, encoder, tmp_path)  # the numerics are measured once for a cache folder
    shutil.rmtree(tmp_path / "embeddings")
    assert embed(TEXTS[::-1], encoder, tmp_path)[::-1].tobytes() == first.tobytes()


def test_frozen_chunks_and_batches_put_every_text_in_its_place(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{word} {'very ' * (number % 7)}good" for number, word in enumerate(["rain", "snow", "soup"] * 9)]
    whole = embed(texts, encoder, tmp_path / "whole")
    monkeypatch.setattr(module, "CHUNK", 4)
    told, parts = run(frozen_embeddings(texts, encoder, tmp_path / "parts"))
    np.testing.assert_allclose(parts, whole, atol=2e-3)
    done = [part for part, _ in told]
    assert done == sorted(set(done))
    assert len(done) > 5


def test_frozen_another_text_encoder_or_method_is_computed_anew(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, changed = tmp_path / "cache", tmp_path / "changed"
    embed(["snow", "rain"], encoder, cache)
    embed(["snow", "rain "], encoder, cache)
    assert len(kept(cache)) == 2
    embed(["snowrain"], encoder, cache)  # texts are not run together
    assert len(kept(cache)) == 3
    shutil.copytree(encoder, changed)
    embed(["snow", "rain"], str(changed), cache)
    assert len(kept(cache)) == 3  # the same files in another place
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "model.safetensors").write_bytes(weights)
    embed(["snow", "rain"], str(changed), cache)
    assert len(kept(cache)) == 4
    monkeypatch.setattr(module, "METHOD", "another")
    embed(["snow", "rain"], encoder, cache)
    assert len(kept(cache)) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data[: 32 + 4 * 16],
        lambda data: data + b"\0\0\0\0",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: data[:-1] + bytes([data[-1] ^ 128]),
    ],
)
def test_frozen_a_damaged_file_is_computed_anew_and_replaced(damage: object, encoder: str, tmp_path: Path) -> None:
    assert callable(damage)
    first = embed(TEXTS, encoder, tmp_path)
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert embed(TEXTS, encoder, tmp_path).tobytes() == first.tobytes()
    assert kept(tmp_path) == [file]
    assert file.read_bytes() == whole


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_frozen_stopping_in_the_middle_leaves_nothing(
    steps: int, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)
    texts = ["word " * length for length in range(1, 50)]
    running = frozen_embeddings(texts, encoder, tmp_path)
    for _ in range(steps):
        done, total = next(running)
    assert done < total
    running.close()
    assert kept(tmp_path) == []


def test_frozen_a_writing_that_fails_leaves_nothing_and_loses_nothing(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    expected = embed(TEXTS, encoder, tmp_path)
    shutil.rmtree(tmp_path / "embeddings")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert embed(TEXTS, encoder, tmp_path).tobytes() == expected.tobytes()
    assert kept(tmp_path) == []
    (tmp_path / "embeddings").rmdir()
    (tmp_path / "embeddings").write_text("a file where the folder should be")
    assert embed(TEXTS, encoder, tmp_path).tobytes() == expected.tobytes()


def test_frozen_what_was_not_used_for_longest_goes_first(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 32 + 16 * 4
    monkeypatch.setenv("MTL_MAX_CACHE_BYTES", str(3 * size))
    settings.cache_clear()
    files: dict[str, Path] = {}
    for age, text in enumerate(["first", "second", "third"]):
        before = set(kept(tmp_path))
        embed([text], encoder, tmp_path)
        (files[text],) = set(kept(tmp_path)) - before
        assert files[text].stat().st_size == size
        os.utime(files[text], (1_000 + age, 1_000 + age))
    embed(["first"], encoder, tmp_path)  # used again
    embed(["fourth"], encoder, tmp_path)
    assert len(kept(tmp_path)) == 3
    assert files["first"].exists()
    assert not files["second"].exists()
    assert files["third"].exists()


@pytest.mark.parametrize("limit", [0, 32 + 2 * 16 * 4 - 1])
def test_frozen_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out(
    limit: int, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(["small"], encoder, tmp_path)
    before = kept(tmp_path)
    monkeypatch.setenv("MTL_MAX_CACHE_BYTES", str(limit))
    settings.cache_clear()
    assert embed(["two", "texts"], encoder, tmp_path).shape == (2, 16)
    assert kept(tmp_path) == before


@pytest.mark.usefixtures("no_encoder")
def test_frozen_no_texts_have_no_embeddings(encoder: str, tmp_path: Path) -> None:
    told, found = run(frozen_embeddings([], encoder, tmp_path))
    assert told == []
    assert found.shape == (0, 0)


@pytest.mark.parametrize("name", ["./no/such/folder", "not a name"])
def test_frozen_an_encoder_that_is_not_there_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a folder|There is no folder"):
        embed(["snow"], name, tmp_path)


def test_frozen_an_encoder_of_the_hub_is_found_where_its_client_keeps_it(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str) -> object:
        loaded.append(name)
        return load_encoder(encoder)

    def found(name: str, file: str) -> str | None:
        return str(Path(encoder) / file) if loaded else None  # fetched when it is first loaded

    monkeypatch.setattr(module, "load_encoder", load)
    monkeypatch.setattr(module, "try_to_load_from_cache", found)
    first = embed(["snow"], "someone/their-encoder", tmp_path)
    assert embed(["snow"], "someone/their-encoder", tmp_path).tobytes() == first.tobytes()
    assert loaded == ["someone/their-encoder"]
    assert len(kept(tmp_path)) == 1

"""Embeddings of texts by an encoder as it is before any training, kept in the cache folder.

What looks at data before a run (near duplicates, suspect labels) needs them again and again; the encoder is loaded only
when they are not there yet.

N texts, U different texts, D embedding size.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from mtl.data.batching import by_token_budget, pad, token_budget, tokenise
from mtl.modeling.encoder import encoder_folder, file_sha256, load_encoder, max_length_of
from mtl.modeling.multitask import MultiTaskModel, embedding_size
from mtl.modeling.ways import fastest
from mtl.runs.files import atomic_file
from mtl.settings import settings
from mtl.training.numerics import best_device

METHOD = "2"  # goes up when the same encoder and texts would give other embeddings
CHUNK = 4096  # texts tokenised at a time
CHECKSUM_BYTES = 32
ENCODER_FILES = {".safetensors", ".bin", ".json", ".txt", ".model"}


def frozen_embeddings(
    texts: Sequence[str], encoder_name: str, cache_dir: Path
) -> Generator[tuple[int, int], None, np.ndarray]:
    """Embed texts with an untrained encoder at its defaults: mean pooling, its own longest text, length 1.

    Equal texts are embedded once, in the fastest way that is true to float32 within a cosine of 1e-4. The result is
    kept under the hash of the texts, whatever their order, and of the encoder's files; the folder is held below
    `MTL_MAX_CACHE_BYTES` by removing what was not used for longest.

    Args:
        texts: N texts.
        encoder_name: As in `load_encoder`.
        cache_dir: The embeddings are kept in its folder `embeddings`.

    Yields:
        The different texts embedded so far and all of them, first with none of them.

    Returns:
        The embeddings, in float32. Shape: (N, D); (0, 0) without any texts.

    Raises:
        CheckpointError: The encoder cannot be loaded.
    """
    different = sorted(set(texts))
    if not different:
        return np.empty((0, 0), dtype=np.float32)
    yield 0, len(different)
    folder = cache_dir / "embeddings"
    file = _file(folder, different, encoder_name)
    vectors = _read(file, len(different)) if file else None
    if vectors is None:
        vectors = yield from _embed(different, encoder_name, cache_dir)
        file = _file(folder, different, encoder_name)  # a Hub encoder has a folder only now, or a newer one
        if file:
            _keep(file, vectors)
    place = {text: row for row, text in enumerate(different)}
    return vectors[[place[text] for text in texts]]


def are_kept(texts: Sequence[str], encoder_name: str, cache_dir: Path) -> bool:
    """Say whether `frozen_embeddings` would find these texts in the cache, so that it takes no time."""
    file = _file(cache_dir / "embeddings", sorted(set(texts)), encoder_name)
    return file is not None and file.is_file()


def _embed(texts: Sequence[str], encoder_name: str, cache_dir: Path) -> Generator[tuple[int, int], None, np.ndarray]:
    """Embed different texts, in batches of similar length. The texts' order settles the batches and so the bits."""
    plain = MultiTaskModel(load_encoder(encoder_name), {}, ()).eval().to(best_device())
    _, model = fastest(plain, settings().precision, cache_dir)
    tokenizer, longest = model.encoder.tokenizer, max_length_of(model.encoder)
    vectors = np.empty((len(texts), embedding_size(model.encoder)), dtype=np.float32)
    done = 0
    for start in range(0, len(texts), CHUNK):
        tokens = tokenise(texts[start : start + CHUNK], tokenizer, longest)
        for indices in by_token_budget([len(ids) for ids in tokens["input_ids"]], token_budget(model.device)):
            features = pad({name: [rows[i] for i in indices] for name, rows in tokens.items()}, tokenizer)
            with torch.inference_mode():
                embedded = model.encode(features)["sentence_embedding"]
            vectors[[start + i for i in indices]] = embedded.cpu().numpy()
            done += len(indices)
            yield done, len(texts)
    return vectors


def _file(folder: Path, texts: Sequence[str], encoder_name: str) -> Path | None:
    """Name the file of these texts' embeddings; None if the encoder is not on this machine yet."""
    encoder = encoder_folder(encoder_name) or _hub_folder(encoder_name)
    if encoder is None:
        return None
    digest = hashlib.sha256(METHOD.encode())
    # hashing the files takes a tenth of a second; the hash of the loaded weights would need them loaded
    for path in sorted([*encoder.glob("*"), *encoder.glob("*/*")]):
        if path.suffix in ENCODER_FILES and path.is_file():
            digest.update(f"{path.relative_to(encoder).as_posix()} {file_sha256(path)}\n".encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return folder / digest.hexdigest()


def _hub_folder(name: str) -> Path | None:
    """Return where the Hub's client keeps an encoder that it fetched before."""
    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # no name of an encoder at all, as loading it will say
        return None
    return Path(found).parent if isinstance(found, str) else None


def _read(file: Path, count: int) -> np.ndarray | None:
    """Read the embeddings back, a checksum and then float32 numbers; None if there are none or the file is damaged."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    with suppress(OSError):  # a folder that cannot be written can be read
        os.utime(file)  # used just now
    checksum, numbers = data[:CHECKSUM_BYTES], memoryview(data)[CHECKSUM_BYTES:]
    if not len(numbers) or len(numbers) % (4 * count) or hashlib.sha256(numbers).digest() != checksum:
        return None
    return np.frombuffer(numbers, dtype="<f4").reshape(count, -1)


def _keep(file: Path, vectors: np.ndarray) -> None:
    """Write the embeddings, then make room. A cache that cannot be written is no reason to lose what was computed."""
    numbers = np.ascontiguousarray(vectors, dtype="<f4")
    limit = settings().max_cache_bytes
    if CHECKSUM_BYTES + numbers.nbytes > limit:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_file(file) as opened:
            opened.write(hashlib.sha256(numbers.data).digest())
            opened.write(numbers.data)
        _evict(file.parent, limit)


def _evict(folder: Path, limit: int) -> None:
    """Remove the files that were not used for longest until the rest is within the limit."""
    found = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda pair: -pair[0].st_mtime_ns)
    total = 0
    for status, path in found:
        total += status.st_size
        if total > limit:
            path.unlink(missing_ok=True)

"""One stage of `growth.py` in a process of its own: `python -m benchmarks.stages STAGE FILE WARM_FILE [ENCODER]`.

It runs on the small file to warm up, then on the other one, and prints seconds and memory as JSON.

N rows, D embedding size.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtl.choices import DEFAULT_ENCODER
from mtl.config import EncoderConfig, RunConfig, TaskConfig, TrainingConfig, task_specs
from mtl.data.columns import find_text_column
from mtl.data.preparing import Prepared, cut, divide, prepare, understand_table
from mtl.data.profile import profile
from mtl.data.reading import Table, read_file

MEASURED = {
    "read": "reading the file",
    "profile": "the profile's first stage",
    "split": "the split",
    "order": "tokenising, ordering an epoch",
    "epoch": "an epoch of training, from its texts on",
    "predict": "predicting the file with all heads",
    "embed": "embedding",
    "search": "1,000 searches",
}
PARTS = {"order"}  # within another stage
SEARCHES, NEAREST, WIDTH = 1_000, 10, 384
LEAST_SECONDS, MOST_REPEATS = 0.5, 5  # what is over sooner is done again, and the median counts


@dataclass(frozen=True)
class Spent:
    """What a stage took.

    Attributes:
        seconds: Of the stage alone.
        own: Bytes at its highest, less its input and what it returns; those of the idle process are in it.
        returned: Bytes of what it returns and had not been given.
        highest: Bytes of the whole process at its highest.
    """

    seconds: float
    own: float
    returned: float
    highest: float


@dataclass(frozen=True)
class Job:
    """A stage that is ready to run: what it was given, and what it does."""

    given: object
    run: Callable[[], object]


def measure(stage: str, file: Path, warm: Path, encoder: str) -> Spent:
    """Run a stage and say what it took."""
    make = STAGES[stage]
    make(warm, encoder).run()
    idle = _settled_memory()
    job = make(file, encoder)
    before = _settled_memory()
    _forget_highest()
    start = time.perf_counter()
    result = job.run()
    seconds = [time.perf_counter() - start]
    highest = _memory("VmHWM")
    returned = size_of(result, seen=_everything(job.given))
    del result
    while sum(seconds) < LEAST_SECONDS and len(seconds) < MOST_REPEATS:
        job = make(file, encoder)
        start = time.perf_counter()
        job.run()
        seconds.append(time.perf_counter() - start)
    own = idle + max(0, highest - before - returned)
    return Spent(float(np.median(seconds)), own, returned, highest)


def _read(file: Path, encoder: str) -> Job:
    return Job(file, lambda: read_file(file))


def _profile(file: Path, encoder: str) -> Job:
    table = read_file(file)

    def run() -> object:
        understood = understand_table(table, RunConfig())
        return understood, profile(understood)

    return Job(table, run)


def _split(file: Path, encoder: str) -> Job:
    understood = understand_table(read_file(file), RunConfig())
    return Job(understood, lambda: divide(understood, RunConfig()))


def _order(file: Path, encoder: str) -> Job:
    from mtl.modeling.multitask import build_model
    from mtl.training.setup import Setup

    table, prepared = _prepared(file, encoder)
    splits = cut(table, prepared.config, prepared.split)
    model = build_model(prepared.config, task_specs(prepared.config))

    def run() -> object:
        made = Setup(model, splits, prepared.config, _cache())
        return made.train, made.validation, made.test, made.draws(1, {})

    return Job((table, splits, prepared, model), run)


def _epoch(file: Path, encoder: str) -> Job:
    from mtl.modeling.multitask import build_model
    from mtl.training.events import EpochEnd
    from mtl.training.loop import train

    table, prepared = _prepared(file, encoder)
    splits = cut(table, prepared.config, prepared.split)
    model = build_model(prepared.config, task_specs(prepared.config))

    def run() -> object:
        events = train(model, splits, prepared.config, cache_dir=_cache())
        return next(event for event in events if isinstance(event, EpochEnd))

    return Job((table, splits, prepared, model), run)


def _predict(file: Path, encoder: str) -> Job:
    from mtl.inference.table import predict_file

    predictor = _predictor(file, encoder)

    def run() -> object:
        with tempfile.TemporaryDirectory() as folder:
            steps = predict_file(predictor, file, Path(folder) / "predictions.csv")
            return sum(1 for _ in steps)

    return Job(predictor, run)


def _embed(file: Path, encoder: str) -> Job:
    predictor, table = _predictor(file, encoder), read_file(file)
    texts = table.columns[find_text_column(table)]
    return Job((predictor, texts), lambda: predictor.embed(texts))


def _search(file: Path, encoder: str) -> Job:
    from mtl.inference.neighbours import nearest

    generator = np.random.default_rng(0)
    rows = len(read_file(file))
    vectors, queries = (generator.standard_normal((n, WIDTH), dtype=np.float32) for n in (rows, SEARCHES))
    for one in (vectors, queries):
        one /= np.linalg.norm(one, axis=1, keepdims=True)
    return Job((vectors, queries), lambda: nearest(queries, vectors, NEAREST))


STAGES: Mapping[str, Callable[[Path, str], Job]] = {
    "read": _read,
    "profile": _profile,
    "split": _split,
    "order": _order,
    "epoch": _epoch,
    "predict": _predict,
    "embed": _embed,
    "search": _search,
}


def _prepared(file: Path, encoder: str) -> tuple[Table, Prepared]:
    fixed: dict[str, Any] = {"precision": "float32", "attention": "eager"} if encoder else {}  # nothing to choose
    training = TrainingConfig(epochs=1, **fixed)
    table = read_file(file)
    return table, prepare(table, RunConfig(encoder=EncoderConfig(name=encoder or DEFAULT_ENCODER), training=training))


def _predictor(file: Path, encoder: str) -> Any:
    """Make a predictor with an untrained head for each of the file's tasks, and one more for entities."""
    from mtl.inference.predictor import Predictor
    from mtl.modeling.multitask import build_model

    _, prepared = _prepared(file, encoder)
    entities = TaskConfig(kind="token_classification", labels=("thing",))
    config = prepared.config.model_copy(update={"tasks": {**prepared.config.tasks, "entities": entities}})
    return Predictor(build_model(config, task_specs(config)), config, {}, precision="float32" if encoder else "auto")


def _cache() -> Path:
    from mtl.settings import settings

    return settings().cache_dir


def tiny_encoder(folder: Path) -> Path:
    """Save a random encoder of one layer with the default encoder's tokenizer, and return its folder."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel
    from transformers.utils import logging as transformers_logging

    from mtl.modeling.encoder import encoder_folder

    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(str(encoder_folder(DEFAULT_ENCODER)))
    torch.manual_seed(0)
    shape: Any = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **shape))
    model.save_pretrained(folder)
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(folder)
    return folder


def _settled_memory() -> int:
    """Give back what can be given back, and return what is left, in bytes."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return _memory("VmRSS")


def _memory(field: str) -> int:
    """Read a number of bytes that Linux keeps of this process; 1 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 1
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _forget_highest() -> None:
    """Let the highest memory count from now on."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def size_of(thing: object, seen: set[int]) -> int:
    """Add up the bytes of a value and all that it holds, each object once.

    Args:
        thing: Containers, texts, numbers, arrays, tensors, and objects of this package; nothing is known of others.
        seen: What is not to be counted, by id; what is counted is added.
    """
    total, waiting = 0, [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        total += sys.getsizeof(one) + _storage_size(one, seen)
        waiting.extend(_parts(one))
    return total


def _everything(thing: object) -> set[int]:
    seen: set[int] = set()
    size_of(thing, seen)
    return seen


def _storage_size(one: object, seen: set[int]) -> int:
    """Return the bytes behind a tensor; several may be views of the same."""
    if not hasattr(one, "untyped_storage"):
        return 0
    storage = one.untyped_storage()
    if -storage.data_ptr() in seen:
        return 0
    seen.add(-storage.data_ptr())
    return int(storage.nbytes())


def _parts(one: object) -> Iterable[object]:
    if isinstance(one, Mapping):
        return [*one.keys(), *one.values()]
    if isinstance(one, list | tuple | set | frozenset):
        return one
    if type(one).__module__.startswith("mtl."):
        slots = [getattr(one, name) for name in getattr(type(one), "__slots__", ()) if hasattr(one, name)]
        return [*slots, *getattr(one, "__dict__", {}).values()]
    return ()


def main() -> None:
    """Measure the stage that the command line names."""
    stage, file, warm, encoder = sys.argv[1:5]
    print(json.dumps(asdict(measure(stage, Path(file), Path(warm), encoder))))


if __name__ == "__main__":
    main()

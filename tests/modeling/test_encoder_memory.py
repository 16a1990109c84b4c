"""That weights go with their last user: a server loads one checkpoint after another."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from mtl.modeling.encoder import load_encoder, transformer_of


def test_encoder_goes_with_its_last_user(tiny_encoder_folder: Path) -> None:
    gc.collect()
    gc.disable()  # a circle would be found by chance otherwise
    try:
        encoder = load_encoder(str(tiny_encoder_folder))
        left = [weakref.ref(part) for part in (encoder, transformer_of(encoder), encoder[1])]
        assert all(one() is not None for one in left)
        del encoder
        assert [one() for one in left] == [None] * 3
    finally:
        gc.enable()

"""sentence-transformers with its Transformer in OpenVINO, where optimum, which would do that, takes no part.

`SentenceTransformer(backend="openvino")` needs optimum-intel, whose releases do not take every transformers. What it
runs is the Transformer converted and compiled for the processor with OpenVINO's defaults for short waits; so does this,
and everything around it is sentence-transformers' own.

B texts, T tokens.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Compiled(nn.Module):
    """A Transformer of OpenVINO that can stand where PyTorch's stood.

    Args:
        transformer: A `PreTrainedModel`, whose weights are copied.
    """

    def __init__(self, transformer: Any) -> None:
        import openvino

        super().__init__()
        self.config, self.device, self.dtype = transformer.config, torch.device("cpu"), torch.float32
        plain = copy.deepcopy(transformer).eval()
        plain.set_attn_implementation("eager")  # the one that can be traced for every shape
        example = torch.ones(2, 8, dtype=torch.long)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: a test holds the result to PyTorch's
            converted = openvino.convert_model(_Named(plain), example_input=(example,) * len(INPUTS))
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._run = openvino.compile_model(converted, "CPU", settings)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **rest: Any) -> BaseModelOutput:
        """Compute the token vectors. Shape of the inputs: (B, T)."""
        kinds = rest.get("token_type_ids", torch.zeros_like(input_ids))
        found = self._run([one.numpy() for one in (input_ids, attention_mask, kinds)])[0]
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found))


class _Named(nn.Module):
    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, *inputs: Tensor) -> Tensor:
        named = dict(zip(INPUTS, inputs, strict=True))
        return self.transformer(**named, return_dict=False)[0]


def with_openvino(encoder: SentenceTransformer) -> SentenceTransformer:
    """Let an encoder's Transformer run in OpenVINO; it is changed in place."""
    transformer: Any = encoder[0]
    transformer.model = Compiled(transformer.model)
    return encoder

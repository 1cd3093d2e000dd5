"""Log-probabilities of many completions of few prompts, each prompt read once.

A group of eight completions repeats its prompt eight times, and a prompt with a schema is several times longer than
an answer: reading it once, with its gradient, is most of the cost of an RL step saved. The result is that of the
plain forward pass; a test holds them together.

Axes: U different prompts, B sequences, P prompt tokens (left-padded), T completion tokens (right-padded), H hidden,
V vocabulary, N unmasked positions.
"""

from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor

from training.engine.head import head_of
from training.engine.model import backbone_of
from training.generation.prefix.reading import read_prefixes


class Scored(NamedTuple):
    logps_BT: Tensor  # 0 where masked
    entropies_BT: Tensor  # without gradient; 0 where masked


def score(
    model: PeftModel,
    prompt_ids_BP: Tensor,
    prompt_mask_BP: Tensor,
    completion_ids_BT: Tensor,
    completion_mask_BT: Tensor,
    temperature: float,
    at_once: int | None = None,
) -> Scored:
    """Padding of prompts must be the same token everywhere, so that equal prompts are equal rows.

    at_once: sequences that are read together, None: all. The probabilities of a whole generation are gigabytes.
    """
    if at_once is not None and at_once < len(prompt_ids_BP):
        parts = [
            score(
                model,
                prompt_ids_BP[some],
                prompt_mask_BP[some],
                completion_ids_BT[some],
                completion_mask_BT[some],
                temperature,
            )
            for some in torch.arange(len(prompt_ids_BP)).split(at_once)
        ]
        return Scored(
            torch.cat([one.logps_BT for one in parts]), torch.cat([one.entropies_BT for one in parts])
        )
    hidden_BTH = _hidden(model, prompt_ids_BP, prompt_mask_BP, completion_ids_BT, completion_mask_BT)
    unmasked_BT = completion_mask_BT.bool()
    logits_NV = head_of(model).logits(hidden_BTH[unmasked_BT])
    all_logps_NV = torch.log_softmax(logits_NV / temperature, dim=-1)
    logps_N = all_logps_NV.gather(1, completion_ids_BT[unmasked_BT][:, None]).squeeze(1)
    with torch.no_grad():
        entropies_N = -(all_logps_NV.exp() * all_logps_NV).sum(-1)
    empty_BT = torch.zeros(completion_ids_BT.shape, device=logps_N.device)
    return Scored(
        empty_BT.masked_scatter(unmasked_BT, logps_N), empty_BT.masked_scatter(unmasked_BT, entropies_N)
    )


def _hidden(
    model: PeftModel,
    prompt_ids_BP: Tensor,
    prompt_mask_BP: Tensor,
    completion_ids_BT: Tensor,
    completion_mask_BT: Tensor,
) -> Tensor:
    """The state before each completion token, (B, T, H)."""
    backbone = backbone_of(model)
    ids_UP, of_B = torch.unique(prompt_ids_BP, dim=0, return_inverse=True)
    first_U = torch.stack([(of_B == u).nonzero()[0, 0] for u in range(len(ids_UP))])
    prompts = read_prefixes(backbone, ids_UP, prompt_mask_BP[first_U], of_B)
    last_B1H = prompts.last_BH[:, None]
    if completion_ids_BT.size(1) == 1:
        return last_B1H
    completions = backbone(
        input_ids=completion_ids_BT[:, :-1], **prompts.followed_by(completion_mask_BT[:, :-1]), use_cache=True
    )
    return torch.cat([last_B1H, completions.last_hidden_state], dim=1)

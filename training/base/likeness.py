"""The sentence encoder that is heard beside the base, while it is trained; `evaluation.inference.likeness` serves it.

The published weights stay; every linear layer gets a low-rank change. What decides is trained with them: how much the
tokens of a description count, how sharp the nearest of several descriptions is, what an exclude takes away, when it is
none of these.

Letters: N conversations, M clauses, E excludes, S and T tokens, C categories, D width.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import MPNetConfig, MPNetModel

from evaluation import sentence_encoder
from evaluation.contract.base_note import (
    EXAMPLE_CATEGORIES,
    EXAMPLE_CONDITIONS,
    EXAMPLES,
    FACTOR_A,
    FACTOR_B,
    KNOWN_CONDITIONS,
    NOT_THERE,
    SCALARS,
    TOKEN_WEIGHT,
    text_key,
)
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from training.base.adapter import write_tensors
from training.hardware import processor_multiplies_in_bf16

_FACTORS_SCALE = 2.0  # of a change's product
_SAVED_RAISED = ("scale", "soft", "aside")  # scalars that are trained as logarithms
_AT_ONCE = 24  # texts of about one length that go through the encoder together


class _Changed(nn.Module):
    """A linear layer and its low-rank change."""

    def __init__(self, kept: nn.Linear, rank: int, dtype: torch.dtype):
        super().__init__()
        self.kept = kept.to(dtype)
        self.A = nn.Parameter(torch.randn(rank, kept.in_features) / math.sqrt(kept.in_features))
        self.B = nn.Parameter(torch.zeros(kept.out_features, rank))

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = self.kept(states)
        return found + F.linear(F.linear(states, self.A), self.B) * _FACTORS_SCALE


def _model(published: sentence_encoder.PublishedEncoder) -> MPNetModel:
    """Without a gradient, and without dropout."""
    model = MPNetModel(MPNetConfig(**published.config), add_pooling_layer=False).eval()
    names = model.state_dict().keys()
    model.load_state_dict({name: torch.tensor(published.weights[name]) for name in names})
    return model.requires_grad_(False)


class _ReadTexts(NamedTuple):
    """Rows of length 1. tokens: of each text [T, D]."""

    means_MD: Tensor
    tokens: list[Tensor]


class LikenessNetwork(nn.Module):
    """On the processor, beside a GPU too. in_bf16: what the layers multiply in; None: as it is good at.

    Raises: EncoderMissing.
    """

    def __init__(self, rank: int, *, in_bf16: bool | None = None):
        super().__init__()
        self._in_bf16 = processor_multiplies_in_bf16() if in_bf16 is None else in_bf16
        published = sentence_encoder.published()
        self._tokenizer = sentence_encoder.tokenizer_of(published)
        self.model = _model(published)
        self._change(self.model.encoder, rank)
        # As ready to train: it begins as good as the published encoder, with its tokens heard. `example_from` is not
        # trained: it was chosen.
        begin = {
            "scale": 3.0,
            "soft": 3.0,
            "late": 0.5,
            "aside": 0.0,
            "aside_from": 0.0,
            "example_from": 0.2,
            "none": 0.3,
            "none_mean": 0.3,
            "none_most": 0.0,
        }
        self.scalars = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(one)) for name, one in begin.items()}
        )
        self.token_weight_D = nn.Parameter(torch.zeros(self.model.config.hidden_size))

    @classmethod
    def trained(cls, file: Path) -> "LikenessNetwork":
        """As `save` has left it. Raises: EncoderMissing."""
        tensors = load_file(file)
        network = cls(next(len(one) for name, one in tensors.items() if name.endswith(FACTOR_A)))
        with torch.no_grad():
            for name, layer in network._changed():
                layer.A.copy_(tensors[name + FACTOR_A])
                layer.B.copy_(tensors[name + FACTOR_B])
            for name, scalar in network.scalars.items():
                scalar.copy_(tensors[name].log() if name in _SAVED_RAISED else tensors[name])
            network.token_weight_D.copy_(tensors[TOKEN_WEIGHT])
        return network

    def learn_last(self, layers: int) -> None:
        """The changes of so many last layers learn, and no other: those below are read without keeping anything."""
        below = len(self.model.encoder.layer) - layers
        for layer in self.model.encoder.layer[:below]:
            layer.requires_grad_(False)

    def factors(self) -> list[nn.Parameter]:
        return [one for one in self.model.parameters() if one.requires_grad]

    def decisive(self) -> list[nn.Parameter]:
        """Everything that is trained beside the factors."""
        return [*self.scalars.values(), self.token_weight_D]

    def forward(self, schema: CategorySchema, conversations: Sequence[Conversation]) -> Tensor:
        """Log-shares [N, answers], in the order of `schema.answers`."""
        clauses = [category.clauses for category in schema.categories]
        excludes = [category.excludes for category in schema.categories]
        descriptions = [text for texts in (*clauses, *excludes) for text in texts]
        read = self._read(["\n".join(one.said) for one in conversations] + descriptions)
        count = len(conversations)
        said = _ReadTexts(read.means_MD[:count], read.tokens[:count])
        alike = self._alike(said, _ReadTexts(read.means_MD[count:], read.tokens[count:]))
        many = sum(map(len, clauses))
        categories_NC = self._nearest(alike[:, :many], clauses)
        scalars = self.scalars
        further_NC = self._nearest(alike[:, many:], excludes) - categories_NC + scalars["aside_from"]
        soft = scalars["soft"].exp()
        scores_NC = categories_NC - scalars["aside"].exp() * F.softplus(further_NC * soft) / soft
        if schema.none_of_these:
            mean_N, most_N = scores_NC.mean(1), scores_NC.amax(1)
            none_N = scalars["none"] + scalars["none_mean"] * mean_N + scalars["none_most"] * most_N
            scores_NC = torch.cat([scores_NC, none_N[:, None]], 1)
        return (scores_NC * scalars["scale"].exp()).log_softmax(1)

    @torch.no_grad()
    def examples(self, schema: CategorySchema, labelled: Sequence[Conversation]) -> dict[str, Tensor]:
        """For `save`: labelled conversations, each with the condition that decided it, or else the likeliest one."""
        clauses = [text for category in schema.categories for text in category.clauses]
        described, means, decided = self._read(clauses), list[Tensor](), list[int]()
        for begin in range(0, len(labelled), _AT_ONCE):
            some = labelled[begin : begin + _AT_ONCE]
            said = self._read(["\n".join(one.said) for one in some])
            alike_NM = self._alike(said, described)
            means.append(said.means_MD)
            for one, alike_M in zip(some, alike_NM, strict=True):
                own = () if one.category is None else schema.category(one.category).clauses
                likeliest = max(own, key=lambda text: alike_M[clauses.index(text)].item(), default=None)
                decided.append(text_key(one.criterion if one.criterion in own else likeliest))
        return {
            EXAMPLES: torch.cat(means).half(),
            EXAMPLE_CONDITIONS: torch.tensor(decided),
            EXAMPLE_CATEGORIES: torch.tensor([text_key(one.category) for one in labelled]),
            KNOWN_CONDITIONS: torch.tensor([text_key(text) for text in clauses]),
        }

    def save(self, file: Path, examples: Mapping[str, Tensor] | None = None) -> None:
        """As `evaluation.inference.likeness` reads it, in half precision; whole or not at all."""
        changed = self._changed()
        tensors = {name + FACTOR_A: layer.A.detach().half() for name, layer in changed}
        tensors |= {name + FACTOR_B: layer.B.detach().half() for name, layer in changed}
        values = {name: one.detach() for name, one in self.scalars.items()}
        values |= {name: values[name].exp() for name in _SAVED_RAISED}
        values["factors_scale"] = torch.tensor(_FACTORS_SCALE)
        tensors |= {name: values[name].float() for name in SCALARS}
        write_tensors(file, tensors | {TOKEN_WEIGHT: self.token_weight_D.detach(), **(examples or {})})

    def _changed(self) -> list[tuple[str, _Changed]]:
        return [(name, layer) for name, layer in self.model.named_modules() if isinstance(layer, _Changed)]

    def _change(self, module: nn.Module, rank: int) -> None:
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                dtype = torch.bfloat16 if self._in_bf16 else torch.float32
                setattr(module, name, _Changed(child, rank, dtype))
            else:
                self._change(child, rank)

    def _read(self, texts: Sequence[str]) -> _ReadTexts:
        each = list(dict.fromkeys(texts))
        ids = [one.ids for one in self._tokenizer.encode_batch(each)]
        by_length = sorted(range(len(each)), key=lambda number: len(ids[number]))
        means: dict[str, Tensor] = {}
        tokens: dict[str, Tensor] = {}
        for begin in range(0, len(by_length), _AT_ONCE):
            numbers = by_length[begin : begin + _AT_ONCE]
            padded, there = _padded([torch.tensor(ids[number]) for number in numbers])
            with torch.autocast("cpu", torch.bfloat16, enabled=self._in_bf16):
                states = self.model(input_ids=padded, attention_mask=there).last_hidden_state
            for number, row in zip(numbers, states.float(), strict=True):
                states_TD = row[: len(ids[number])]
                means[each[number]] = F.normalize(states_TD.mean(0), dim=-1)
                inner_TD = states_TD[1:-1] if len(states_TD) > 2 else states_TD
                tokens[each[number]] = F.normalize(inner_TD, dim=-1)
        return _ReadTexts(torch.stack([means[text] for text in texts]), [tokens[text] for text in texts])

    def _nearest(self, alike: Tensor, own: Sequence[Sequence[str]]) -> Tensor:
        """Of the texts of each category [N, C]; soft, so that several count a little more than one."""
        soft = self.scalars["soft"].exp()
        parts = alike.split([len(texts) for texts in own], dim=1)
        nothing = alike.new_full((len(alike),), NOT_THERE)
        return torch.stack(
            [(part * soft).logsumexp(1) / soft if part.size(1) else nothing for part in parts], 1
        )

    def _alike(self, said: _ReadTexts, descriptions: _ReadTexts) -> Tensor:
        said_NTD, said_NT = _padded(said.tokens)
        tokens_MSD, tokens_MS = _padded(descriptions.tokens)
        found_MSNT = torch.einsum("msd,ntd->msnt", tokens_MSD, said_NTD)
        nearest_MSN = found_MSNT.masked_fill(said_NT[None, None] == 0, -1.0).amax(-1)
        weights_MS = (tokens_MSD @ self.token_weight_D).masked_fill(tokens_MS == 0, -torch.inf).softmax(-1)
        late_NM = torch.einsum("msn,ms->nm", nearest_MSN, weights_MS)
        return said.means_MD @ descriptions.means_MD.T + self.scalars["late"] * late_NM


def optimizer_of(network: LikenessNetwork) -> torch.optim.AdamW:
    """Of its factors, and of what decides beside them."""
    groups = [{"params": network.factors()}, {"params": network.decisive()}]
    return torch.optim.AdamW(groups, weight_decay=0.0)


def add_gradient(
    network: LikenessNetwork, schema: CategorySchema, conversations: Sequence[Conversation], weight: float
) -> int:
    """Adds to the gradient what their labels say, together so much. Returns how many it had right."""
    shares, right = network(schema, conversations), gold(schema, conversations)
    (weight * F.nll_loss(shares, right)).backward()
    return int((shares.argmax(1) == right).sum())


def take_step(network: LikenessNetwork, optimizer: torch.optim.Optimizer, rates: tuple[float, float]) -> bool:
    """rates: of the optimizer's groups. False, and nothing is touched, where the gradient is not finite."""
    norm = nn.utils.clip_grad_norm_(network.factors(), 1.0)
    if not torch.isfinite(norm):
        return False
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    return True


def gold(schema: CategorySchema, conversations: Sequence[Conversation]) -> Tensor:
    """The places of the right answers among `schema.answers`, [N]."""
    answers = list(schema.answers)
    return torch.tensor([answers.index(one.category) for one in conversations])


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """With zeros to the longest, and 1 where there is something."""
    there = nn.utils.rnn.pad_sequence(
        [torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True
    )
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True), there

"""The base's layers as its training reads them: Llama's arithmetic over one tree, with low-rank changes to each matrix.

transformers' own layers do the same (a test compares them); here only what a tree needs is computed, which on two cores
is twice as fast. What is read is the merged matrix W + s·BA, rounded as serving rounds it, made anew from fp32 after
each step; so nothing drifts, and the forward pass costs nothing beside the base's. The gradient reaches A and B alone.

Letters: T tokens, C width, H heads, K heads of keys, D width of a head, S keys that a segment sees, R rank.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from training.base.trees import TreeRow

SEGMENT: Final = 256  # queries that are read at once
ATTENTION: Final = ("q_proj", "k_proj", "v_proj")
GATED: Final = ("gate_proj", "up_proj")


class Segment(NamedTuple):
    """Queries begin..end; they see the first `prefix` keys, then begin..end as `hidden_LL` (True: not seen) allows."""

    begin: int
    end: int
    prefix: int
    hidden_LL: Tensor


def segments(row: TreeRow) -> list[Segment]:
    """The prefix in pieces, and the suffixes in groups, each of at most SEGMENT tokens or a single suffix."""
    prefix = row.spans[0][1]
    found = []
    for begin in range(0, prefix, SEGMENT):
        end = min(prefix, begin + SEGMENT)
        later = torch.ones(end - begin, end - begin, dtype=torch.bool).triu(1)
        found.append(Segment(begin, end, begin, later))
    group: list[int] = []
    for number in range(1, len(row.spans)):
        if group and row.spans[number][1] - row.spans[group[0]][0] > SEGMENT:
            found.append(_group(row, group, prefix))
            group = []
        group.append(number)
    return [*found, _group(row, group, prefix)] if group else found


def _group(row: TreeRow, numbers: list[int], prefix: int) -> Segment:
    begin, end = row.spans[numbers[0]][0], row.spans[numbers[-1]][1]
    seen = torch.block_diag(*(row.masks[number - 1].float() for number in numbers)).bool()
    return Segment(begin, end, prefix, ~seen)


class LowRankChange(nn.Module):
    """A low-rank change of one matrix: scale · B A."""

    def __init__(self, out_width: int, in_width: int, rank: int, alpha: int):
        super().__init__()
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.empty(rank, in_width))
        self.B = nn.Parameter(torch.zeros(out_width, rank))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)

    def added_to(self, weight: Tensor) -> Tensor:
        return torch.addmm(weight, self.B, self.A, alpha=self.scale)


class _Projected(torch.autograd.Function):
    """x @ merged.T, where merged is the matrices of one input below each other, and its gradient to their changes."""

    @staticmethod
    def forward(ctx: Any, x_TC: Tensor, merged: Tensor, scale: float, *factors: Tensor) -> Tensor:
        ctx.save_for_backward(x_TC, merged, *factors)
        ctx.scale = scale
        return F.linear(x_TC, merged)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_TC, merged, *factors = ctx.saved_tensors
        gradients: list[Tensor] = []
        widths = [b.size(0) for b in factors[1::2]]
        for part, a, b in zip(grad.split(widths, dim=1), factors[::2], factors[1::2], strict=True):
            down_TR = part @ b.to(part.dtype)
            gradients.append((down_TR.T @ x_TC).float() * ctx.scale)
            gradients.append((part.T @ F.linear(x_TC, a.to(x_TC.dtype))).float() * ctx.scale)
        return (grad @ merged, None, None, *gradients)


class _TreeAttention(torch.autograd.Function):
    """q_KGTD, k_KTD, v_KTD -> out_KGTD, where G heads share a head of keys."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: Sequence[Segment]) -> Tensor:
        scale, groups = q.size(-1) ** -0.5, q.size(1)
        out, probabilities = torch.empty_like(q), []
        for part in parts:
            scores = _queries(q, part) @ _keys(k, part).transpose(1, 2)
            scores *= scale
            within = scores.view(q.size(0), groups, part.end - part.begin, -1)[..., part.prefix :]
            within.masked_fill_(part.hidden_LL, float("-inf"))
            probs = torch.softmax(scores, dim=-1)
            out[:, :, part.begin : part.end] = (probs @ _keys(v, part)).view_as(
                out[:, :, part.begin : part.end]
            )
            probabilities.append(probs)
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.parts, ctx.scale = parts, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *probabilities = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for part, probs in zip(ctx.parts, probabilities, strict=True):
            down = _queries(grad, part)
            _add(grad_v, probs.transpose(1, 2) @ down, part)
            towards = torch._softmax_backward_data(
                down @ _keys(v, part).transpose(1, 2), probs, -1, probs.dtype
            )
            towards *= ctx.scale
            size = grad_q[:, :, part.begin : part.end]
            size.copy_((towards @ _keys(k, part)).view_as(size))
            _add(grad_k, towards.transpose(1, 2) @ _queries(q, part), part)
        return grad_q, grad_k, grad_v, None


def _queries(q_KGTD: Tensor, part: Segment) -> Tensor:
    return q_KGTD[:, :, part.begin : part.end].reshape(q_KGTD.size(0), -1, q_KGTD.size(-1))


def _keys(k_KTD: Tensor, part: Segment) -> Tensor:
    if part.begin <= part.prefix:
        return k_KTD[:, : part.end]
    return torch.cat([k_KTD[:, : part.prefix], k_KTD[:, part.begin : part.end]], dim=1)


def _add(total_KTD: Tensor, grad_KSD: Tensor, part: Segment) -> None:
    total_KTD[:, : part.prefix] += grad_KSD[:, : part.prefix]
    total_KTD[:, part.begin : part.end] += grad_KSD[:, part.prefix :]


class _Normed(torch.autograd.Function):
    """Root-mean-square norm with fixed weights: the gradient reaches x alone."""

    @staticmethod
    def forward(ctx: Any, x_TC: Tensor, weight_C: Tensor, eps: float) -> Tensor:
        wide = x_TC.float()
        inverse_T1 = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        unit = wide.mul_(inverse_T1) if wide is not x_TC else wide * inverse_T1
        unit = unit.to(x_TC.dtype)
        ctx.save_for_backward(unit, weight_C, inverse_T1)
        return unit * weight_C

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        unit, weight_C, inverse_T1 = ctx.saved_tensors
        down = (grad * weight_C).float()
        along = (down * unit).mean(-1, keepdim=True)
        return torch.addcmul(down, unit.float(), along, value=-1).mul_(inverse_T1).to(grad.dtype), None, None


class _Layer(NamedTuple):
    """Merged matrices, as they are read."""

    qkv: Tensor
    o: Tensor
    gated: Tensor
    down: Tensor


class Network(nn.Module):
    """base: in fp32; its weights are kept beside the changes and never trained."""

    def __init__(self, base: LlamaForCausalLM, rank: int, alpha: int, dtype: torch.dtype):
        super().__init__()
        self.config, self.dtype = base.config, dtype
        self._base = dict(base.state_dict())
        self.changes = nn.ModuleDict(
            {
                name.removesuffix(".weight").replace(".", "/"): LowRankChange(
                    weight.size(0), weight.size(1), rank, alpha
                )
                for name, weight in self._base.items()
                if name.endswith("_proj.weight")
            }
        )
        self._embedding = self._base["model.embed_tokens.weight"].to(dtype)
        self._merged: list[_Layer] = []

    def change(self, layer: int, name: str) -> LowRankChange:
        found = self.changes[f"model/layers/{layer}/{_room(name)}/{name}"]
        assert isinstance(found, LowRankChange)
        return found

    @torch.no_grad()
    def merge(self) -> None:
        """Make the matrices that are read anew. To be called after every step."""
        self._merged = [
            _Layer(
                *(self._stacked(layer, names) for names in (ATTENTION, ("o_proj",), GATED, ("down_proj",)))
            )
            for layer in range(self.config.num_hidden_layers)
        ]

    def forward(self, row: TreeRow) -> Tensor:
        """Logits at the targets of the row, N by the vocabulary, in fp32."""
        config, eps = self.config, self.config.rms_norm_eps
        kv, d = config.num_key_value_heads, config.head_dim
        groups = config.num_attention_heads // kv
        device = self._embedding.device
        x = self._embedding[row.ids_T.to(device)]
        turn = self._rotation(row.positions_T.to(device))
        parts = [part._replace(hidden_LL=part.hidden_LL.to(device)) for part in segments(row)]
        for number, layer in enumerate(self._merged):
            normed = _Normed.apply(x, self._norm(number, "input"), eps)
            q, k, v = self._projected(normed, layer.qkv, number, ATTENTION).split(
                [kv * groups * d, kv * d, kv * d], dim=1
            )
            q = _rotated(q.view(-1, kv, groups, d).permute(1, 2, 0, 3), turn)
            k = _rotated(k.view(-1, kv, d).transpose(0, 1), turn)
            read = _TreeAttention.apply(q, k, v.view(-1, kv, d).transpose(0, 1), parts)
            read = read.permute(2, 0, 1, 3).reshape(x.size(0), -1)
            x = x + self._projected(read, layer.o, number, ("o_proj",))
            normed = _Normed.apply(x, self._norm(number, "post_attention"), eps)
            gate, up = self._projected(normed, layer.gated, number, GATED).chunk(2, dim=1)
            x = x + self._projected(F.silu(gate) * up, layer.down, number, ("down_proj",))
        last = _Normed.apply(x[row.where_N.to(device)], self._base["model.norm.weight"].to(self.dtype), eps)
        return F.linear(last, self._embedding).float()

    def _projected(self, x: Tensor, merged: Tensor, layer: int, names: Sequence[str]) -> Tensor:
        changes = [self.change(layer, name) for name in names]
        factors = [factor for change in changes for factor in (change.A, change.B)]
        return _Projected.apply(x, merged, changes[0].scale, *factors)

    def _stacked(self, layer: int, names: Sequence[str]) -> Tensor:
        return torch.cat([self.merged_weight(layer, name) for name in names]).to(self.dtype)

    def merged_weight(self, layer: int, name: str) -> Tensor:
        weight = self._base[f"model.layers.{layer}.{_room(name)}.{name}.weight"]
        return self.change(layer, name).added_to(weight)

    def _norm(self, layer: int, which: str) -> Tensor:
        return self._base[f"model.layers.{layer}.{which}_layernorm.weight"].to(self.dtype)

    def _rotation(self, positions_T: Tensor) -> tuple[Tensor, Tensor]:
        d = self.config.head_dim
        steps = torch.arange(0, d, 2, device=positions_T.device) / d
        angles = positions_T[:, None] * self.config.rope_parameters["rope_theta"] ** -steps
        both = torch.cat([angles, angles], dim=-1)
        return both.cos().to(self.dtype), both.sin().to(self.dtype)


def _room(name: str) -> str:
    return "mlp" if name in (*GATED, "down_proj") else "self_attn"


def _rotated(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * turn[0] + torch.cat([-second, first], dim=-1) * turn[1]

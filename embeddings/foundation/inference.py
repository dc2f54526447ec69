"""The forward pass of a trained model for its last positions only, as fast as the machine allows.

It computes the states of `FoundationModel.members` at the last position, without what that position does not need:

- the last block needs keys and values of all positions, but queries, feed-forward and gates of the last one only;
- the projections of titles and of sets of actions (eight at a time) are tables, looked up instead of multiplied;
- the time bias is one look-up by the exponent of a span per head, in batches that fit the processor's cache;
- linear layers run in bfloat16 where asked, with the residual stream, norms and attention in float32.

A member's batch is padded to a length that follows from its own length alone, and no product has so few rows that
another kernel would be chosen for it. So a vector does not depend on who else is encoded (the bits are the same
for the usual widths): an incremental night gives what a full one would.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from embeddings.foundation.model import FoundationModel
from embeddings.foundation.network import Attention, TransformerBlock
from embeddings.foundation.sequences import NUM_GAP_CODES, POST_COLUMNS, TokenSequences

Ints = npt.NDArray[np.int64]
Pair = tuple[torch.Tensor, torch.Tensor]
"""Weight and bias."""
_EXPONENTS = 512
_EXPONENT_OF_HALF = 126
_BITS, _SETS = 8, 256
_CACHED_POSITIONS = 4096
_GEMM_ROWS, _SMALL_GEMM_ROWS = 512, 64


@dataclass(frozen=True)
class PaddedWindows:
    """The last positions of some members, padded on the right to (b, l), on the model's device."""

    titles: torch.Tensor
    codes: torch.Tensor
    """int32 rows of the table of codes and of sets of actions, (b, l, …)."""
    seconds: torch.Tensor
    """int32, since the first position of the window."""
    last: torch.Tensor


class LastPositionForward:
    """A model prepared for encoding; its weights are copied to `device` in the dtype of the linear layers."""

    def __init__(
        self, model: FoundationModel, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> None:
        self.device, self.dtype = device or torch.device("cpu"), dtype
        self.length, self.width = model.length, model.transformer.project.in_features
        with torch.no_grad():
            self._prepare(model)

    @staticmethod
    def supports(model: FoundationModel) -> bool:
        """Whether the network is made of the blocks that this pass was written for."""
        return model.is_windowed and all(type(block) is TransformerBlock for block in model.transformer.blocks)

    def _prepare(self, model: FoundationModel) -> None:
        tokens, network = model.tokens, model.transformer
        self.titles = self._to_device(tokens.title(model.known_titles()[0]))
        self._offsets = tokens.offsets.numpy().astype(np.int32)
        bits = (torch.arange(_SETS)[:, None] >> torch.arange(_BITS)) & 1
        columns = torch.nn.functional.pad(tokens.actions.weight, (0, -tokens.actions.in_features % _BITS))
        sets = [bits.float() @ part.T for part in torch.split(columns, _BITS, dim=1)]
        self._first_set = len(tokens.codes.weight)
        self.codes, self.places = (
            self._to_device(torch.cat([tokens.codes.weight, *sets])),
            self._to_device(tokens.places.weight),
        )
        self.blocks = [_BlockWeights(block, self) for block in network.blocks]  # type: ignore[arg-type]
        self.spans = self._to_device(_span_table(network.time.table)) if network.time is not None else None

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(self.device).contiguous()

    def windows(self, tokens: TokenSequences, first: Ints, lengths: Ints, padded: int) -> PaddedWindows:
        """Positions `first` to `first + lengths`, each window padded to `padded`, with no request at its last one."""
        step = np.arange(padded)
        index = first[:, None] + np.minimum(step[None, :], lengths[:, None] - 1)
        rows = self._rows(tokens.codes.take(index, axis=0), tokens.actions.take(index))
        rows[np.arange(len(first)), lengths - 1, len(POST_COLUMNS) : len(self._offsets)] = self._offsets[
            len(POST_COLUMNS) :
        ]
        times = tokens.times.take(index)
        return PaddedWindows(
            titles=self._send(tokens.titles.take(index)),
            codes=self._send(rows),
            seconds=self._send((times - times[:, :1]).astype(np.int32)),
            last=self._send(lengths - 1),
        )

    def _rows(self, codes: npt.NDArray[np.int32], actions: Ints) -> npt.NDArray[np.int32]:
        """(b, l, …) rows of the table of codes; bytes of actions that none has are left out."""
        shifts, known = range(0, int(actions.max(initial=0)).bit_length(), _BITS), len(self._offsets)
        rows = np.empty((*actions.shape, known + len(shifts)), np.int32)
        np.add(codes, self._offsets, out=rows[..., :known])
        for column, shift in enumerate(shifts, known):
            rows[..., column] = ((actions >> shift) & (_SETS - 1)) + (self._first_set + shift // _BITS * _SETS)
        return rows

    def _send(self, array: npt.NDArray[np.generic]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    @torch.no_grad()
    def states(self, windows: PaddedWindows) -> torch.Tensor:
        """(b, width) states of the last position of each window, on the processor."""
        x = self._embedded(windows)
        bias = self._bias(windows.seconds)
        for block in self.blocks[:-1]:
            x = block.all_positions(x, bias)
        return self.blocks[-1].last_position(x, bias, windows.last).cpu()

    @property
    def max_positions_per_batch(self) -> int:
        """Positions of a batch: what a processor's cache holds, or what fits into half of a GPU's free memory."""
        if self.device.type == "cpu":
            return _CACHED_POSITIONS
        free, _ = torch.cuda.mem_get_info(self.device)
        widths = 40 * self.titles.shape[1] + 6 * self.blocks[0].heads * self.length
        return max(self.length, free // 2 // (4 * widths))

    def _embedded(self, windows: PaddedWindows) -> torch.Tensor:
        b, length = windows.titles.shape
        x = functional.embedding_bag(windows.codes.view(b * length, -1), self.codes, mode="sum")
        x += self.titles[windows.titles.view(-1)]
        return x.view(b, length, -1).add_(self.places[:length])

    def _bias(self, seconds: torch.Tensor) -> torch.Tensor:
        """(heads, b, l, l) of biases, −inf where the key comes after the query."""
        b, length = seconds.shape
        heads = self.blocks[0].heads
        later = torch.ones(length, length, dtype=torch.bool, device=self.device).triu_(1)
        if self.spans is None:
            plain = torch.zeros(length, length, device=self.device).masked_fill_(later, float("-inf"))
            return plain.expand(heads, b, length, length)
        spans = (seconds[:, :, None] - seconds[:, None, :]).clamp_(min=0).float().add_(1.0)
        exponents = (spans.view(torch.int32) >> 23).masked_fill_(later, _EXPONENTS - 1).view(-1)
        bias = torch.empty(heads, exponents.numel(), device=self.device)
        for head, table in enumerate(self.spans):
            torch.index_select(table, 0, exponents, out=bias[head])
        return bias.view(heads, b, length, length)


class _BlockWeights:
    """The weights of one block, laid out for inference; names as in `network.Block`."""

    def __init__(self, block: TransformerBlock, inference: LastPositionForward) -> None:
        attention: Attention = block.attention
        there, self.dtype = inference._to_device, inference.dtype
        self.heads = attention.heads
        self.norm_attention = there(block.norm_attention.weight), there(block.norm_attention.bias)
        self.norm_feed = there(block.norm_feed.weight), there(block.norm_feed.bias)
        self.qkv, self.out = self._cast(attention.qkv, there), self._cast(attention.out, there)
        self.gate_attention, self.gate_feed = (
            self._cast(block.gate_attention, there),
            self._cast(block.gate_feed, there),
        )
        self.up, self.down = self._cast(block.feed.up, there), self._cast(block.feed.down, there)

    def _cast(self, linear: torch.nn.Linear, there: Callable[[torch.Tensor], torch.Tensor]) -> Pair:
        return there(linear.weight).to(self.dtype), there(linear.bias).to(self.dtype)

    def _linear(self, x: torch.Tensor, weights: Pair) -> torch.Tensor:
        """x·Wᵀ + b in the dtype of the weights.

        Below float32 a product is compiled for each number of rows: they are filled up to one of a few.
        """
        if self.dtype is torch.float32 or x.device.type != "cpu":
            return functional.linear(x.to(self.dtype), *weights)
        rows = x.numel() // x.shape[-1]
        unit = _SMALL_GEMM_ROWS if rows < _GEMM_ROWS else _GEMM_ROWS
        filled = torch.zeros(-(-rows // unit) * unit, x.shape[-1], dtype=self.dtype)
        filled[:rows] = x.reshape(rows, -1)
        return functional.linear(filled, *weights)[:rows].view(*x.shape[:-1], -1)

    def all_positions(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(b, l, width) to the same."""
        b, length, width = x.shape
        normed = _normed(x, self.norm_attention)
        q, k, v = self._linear(normed, self.qkv).float().view(b, length, 3, self.heads, -1).permute(2, 3, 0, 1, 4)
        mixed = _attend(q, k, v, bias).permute(1, 2, 0, 3).reshape(b, length, width)
        return self._finish_block(x, mixed)

    def last_position(self, x: torch.Tensor, bias: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """(b, l, width) to (b, width): the state of position `last` (b,)."""
        b, length, width = x.shape
        rows = torch.arange(b, device=x.device)
        normed = _normed(x, self.norm_attention)
        weight, offset = self.qkv
        k, v = (
            self._linear(normed, (weight[width:], offset[width:]))
            .float()
            .view(b, length, 2, self.heads, -1)
            .permute(2, 3, 0, 1, 4)
        )
        asked = self._linear(normed[rows, last], (weight[:width], offset[:width])).float()
        q = asked.view(b, 1, self.heads, -1).permute(2, 0, 1, 3)
        mixed = _attend(q, k, v, bias[:, rows, last].unsqueeze(2)).permute(1, 2, 0, 3).reshape(b, width)
        return self._finish_block(x[rows, last], mixed)

    def _finish_block(self, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Gated output of the attention, then the gated feed-forward."""
        x = x + torch.sigmoid(self._linear(x, self.gate_attention)) * self._linear(mixed, self.out)
        normed = _normed(x, self.norm_feed)
        gate, value = self._linear(normed, self.up).chunk(2, dim=-1)
        return x + torch.sigmoid(self._linear(x, self.gate_feed)) * self._linear(
            functional.silu(gate) * value, self.down
        )


def _normed(x: torch.Tensor, norm: Pair) -> torch.Tensor:
    return functional.layer_norm(x, (x.shape[-1],), norm[0], norm[1])


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """(heads, b, m, d), keys and values (heads, b, l, d), bias (heads, b, m, l) to (heads, b, m, d).

    Batches of some thousand positions stay in the cache, where plain products beat the fused kernels.
    """
    heads, b, m, width = q.shape
    length = k.shape[2]
    scores = torch.baddbmm(
        bias.reshape(heads * b, m, length),
        q.reshape(heads * b, m, width) * width**-0.5,
        k.reshape(heads * b, length, width).transpose(1, 2),
    )
    mixed = torch.bmm(torch.softmax(scores, dim=-1), v.reshape(heads * b, length, width))
    return mixed.view(heads, b, m, width)


def _span_table(table: torch.Tensor) -> torch.Tensor:
    """(heads, exponents): the bias by the exponent of 1 + seconds as a float32; the last one is −inf."""
    buckets = (torch.arange(_EXPONENTS) - _EXPONENT_OF_HALF).clamp(0, NUM_GAP_CODES - 1)
    spans = table.detach().T[:, buckets].clone()
    spans[:, -1] = float("-inf")
    return spans

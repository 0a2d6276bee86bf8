"""Who may look at whom, said once and read by every attention kernel.

Axes: B sample, Q query position, K key position, S position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.models.language.configuration import AttentionBackend

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True, kw_only=True)
class AttentionMask:
    """A rule of attention; what is None restricts nothing.

    Every position may look at itself, whatever else holds: a padded query then has a softmax to
    take, and nothing reads it.

    Attributes:
        causal: Keys after the query are hidden, but for those of the prefix.
        document_BK: Numbers of packed documents; different ones do not see each other.
        prefix_B: The first so many keys are seen by all of the prefix, in both directions.
        is_prefix_BK: Likewise, where each of several packed documents has a prefix of its own.
        valid_BK: Which keys are real and not padding.
        first_query: Position of the first query, when earlier ones are in a cache.
    """

    causal: bool = True
    document_BK: Tensor | None = None
    prefix_B: Tensor | None = None
    is_prefix_BK: Tensor | None = None
    valid_BK: Tensor | None = None
    first_query: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether nothing depends on the sample: causal, or everything."""
        return all(each is None for each in self._by_sample)

    def allows(self, sample: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """The rule for indices that broadcast together; `query` counts from `first_query`."""
        query = query + self.first_query
        # No Python branch on values: FlexAttention traces this with scalar indices.
        allowed = query >= key if self.causal else (query == query) & (key == key)
        if self.causal and self.prefix_B is not None:
            end = self.prefix_B[sample]
            allowed = allowed | ((query < end) & (key < end))
        if self.causal and self.is_prefix_BK is not None:
            is_prefix = self.is_prefix_BK
            allowed = allowed | (is_prefix[sample, query] & is_prefix[sample, key])
        if self.document_BK is not None:
            allowed = allowed & (self.document_BK[sample, query] == self.document_BK[sample, key])
        if self.valid_BK is not None:
            allowed = allowed & self.valid_BK[sample, key]
        return allowed | (query == key)

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        """(B, Q, K) booleans, B being 1 where nothing depends on the sample."""
        sample = torch.arange(self._num_samples, device=device)[:, None, None]
        query = torch.arange(num_queries, device=device)[None, :, None]
        key = torch.arange(num_keys, device=device)[None, None, :]
        return self.allows(sample, query, key)

    @property
    def _num_samples(self) -> int:
        return next((len(tensor) for tensor in self._by_sample if tensor is not None), 1)

    @property
    def _by_sample(self) -> tuple[Tensor | None, ...]:
        return (self.document_BK, self.prefix_B, self.is_prefix_BK, self.valid_BK)

    def prepared(
        self, backend: AttentionBackend, num_queries: int, num_keys: int, device: torch.device
    ) -> PreparedMask:
        """What the blocks share: made once a forward pass, not once a layer."""
        if num_queries == 1 and self.valid_BK is None and self.document_BK is None:
            return PreparedMask()
        if self.is_plain and not self.causal:
            return PreparedMask()
        if self.is_plain and self.first_query == 0 and num_queries == num_keys:
            return PreparedMask(is_causal=True)
        if backend == "flex" and self.first_query == 0:
            return PreparedMask(block=self._block_mask(num_queries, num_keys, device))
        return PreparedMask(dense_B1QK=self.dense(num_queries, num_keys, device)[:, None])

    def _block_mask(self, num_queries: int, num_keys: int, device: torch.device) -> BlockMask:
        from torch.nn.attention.flex_attention import create_block_mask

        return create_block_mask(
            lambda sample, _head, query, key: self.allows(sample, query, key),
            B=self._num_samples,
            H=None,
            Q_LEN=num_queries,
            KV_LEN=num_keys,
            device=device.type if device.index is None else str(device),
        )


@dataclass(frozen=True, kw_only=True)
class PreparedMask:
    """A mask as a kernel takes it: at most one of the three is set."""

    is_causal: bool = False
    dense_B1QK: Tensor | None = None
    block: BlockMask | None = None

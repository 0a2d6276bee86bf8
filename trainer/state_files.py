"""The tensors of a training state on disk, in safetensors: one file, or one of each rank's parts.

Parts are written and read by torch.distributed.checkpoint, which cuts them anew for as many ranks
as there are. Its own format holds a pickle; this one does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.tensor_file import write_tensors

_WHOLE = "state.safetensors"


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the CPU's memory, which the next step does not change."""
    return {
        name: tensor.detach().clone() if tensor.device.type == "cpu" else tensor.detach().cpu()
        for name, tensor in tensors.items()
    }


def write_whole(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Raises OSError."""
    write_tensors({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / _WHOLE)


def write_parts(tensors: Mapping[str, Tensor], folder: Path, group: Any) -> None:
    """Each rank of the group its own, all together; returns when all have, on the disk for good.

    Raises OSError.
    """
    # Here and below, for it takes a second that a run which begins and cuts nothing need not wait.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(dict(tensors), storage_writer=writer, process_group=group)
    except CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise OSError(f"{folder}: cannot be written: {first}") from error


def read_tensors(folder: Path, layout: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of them. layout: like which some are to be cut among ranks; each rank reads by itself.

    Raises OSError, RuntimeError, ValueError, safetensors.SafetensorError for what cannot be read.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    tensors: dict[str, Tensor] = {}
    for name, stored in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(stored, TensorStorageMetadata)
        like = layout.get(name)
        if like is None:
            tensors[name] = torch.empty(stored.size, dtype=stored.properties.dtype)
            continue
        if like.shape != stored.size:
            raise ValueError(f"{name}: expected {tuple(like.shape)}, got {tuple(stored.size)}")
        tensors[name] = torch.empty_like(like)
    with warnings.catch_warnings():
        # That it does without the other ranks, which is what was asked for.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors

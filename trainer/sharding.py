"""A network of which each rank holds a part, by FSDP2: in units, blocks and what is beside them.

Parameters become DTensors, cut along their first axis. A unit's weights are gathered when its
forward pass begins, and again for its backward pass, which leaves each rank its part of the
gradient's mean over ranks.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from trainer.models.hugging_face import HuggingFaceBackbone
from trainer.models.hugging_face_language import HuggingFaceLanguageModel
from trainer.models.hugging_face_vision import HuggingFaceVisionTower
from trainer.models.language.transformer import Block
from trainer.models.policy_network import PolicyNetwork
from trainer.models.vision_language import VisionLanguageModel
from trainer.models.vision_language_action import VisionLanguageAction
from trainer.training_configuration import Precision, ShardingConfig

_Network = TypeVar("_Network", bound=nn.Module)


def shard(
    network: nn.Module, config: ShardingConfig, precision: Precision, mesh: DeviceMesh
) -> None:
    """In place, onto the mesh's devices. network: the module whose forward pass a loss is.

    Weights are gathered as bfloat16 where activations are, gradients are summed in float32, and
    what a rank keeps stays float32. A parameter without axes cannot be cut: each rank has it whole,
    and its gradient is to be summed by who asks for it.
    """
    # Here, for it takes a second that who cuts nothing need not wait.
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bfloat16" else None,
        reduce_dtype=torch.float32,
        # Autocast does it, and leaves alone what has to be float32, such as angles of positions.
        cast_forward_inputs=False,
    )
    offload = OffloadPolicy()
    if config.cpu_offload:
        offload = CPUOffloadPolicy(pin_memory=mesh.device_type != "cpu")
    # A block returns its keys and values, which are views, and which nothing writes into.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    scalars = {parameter for parameter in network.parameters() if parameter.ndim == 0}
    for parameter in scalars:
        parameter.data = parameter.data.to(_device(mesh))
    for module in _seeing(network):
        module.always_sees = True
    for block in _blocks(network):
        fully_shard(
            block,
            mesh=mesh,
            reshard_after_forward=config.kind == "full",
            mp_policy=policy,
            offload_policy=offload,
            ignored_params=scalars,
        )
    fully_shard(
        network, mesh=mesh, mp_policy=policy, offload_policy=offload, ignored_params=scalars
    )
    if isinstance(network, PolicyNetwork):
        # By this its loss begins; what is gathered then serves its head, too.
        register_fsdp_forward_method(network, "encode")
    if isinstance(network, VisionLanguageAction):
        # By this a loss of words begins.
        register_fsdp_forward_method(network, "say")


def is_cut(tensor: Tensor) -> bool:
    """Whether it is a DTensor, whose class is known only where something was cut."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of it, in the same memory."""
    cut: Any = tensor
    return cut.to_local() if is_cut(tensor) else tensor


def gathered(tensor: Tensor, device: torch.device) -> Tensor:
    """The whole of it, on every rank; all ranks ask for it together."""
    if not is_cut(tensor):
        return tensor
    there: Any = tensor.to(device)
    return there.full_tensor()


def hollow_copy(network: _Network) -> _Network:
    """The same network without weights, to be given whole ones."""
    nothing = {
        id(parameter): nn.Parameter(parameter.new_empty(0), requires_grad=False)
        for parameter in network.parameters()
    }
    return copy.deepcopy(network, nothing)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Of every tower, Hugging Face's included."""
    for module in network.modules():
        if isinstance(module, Block):
            yield module
        elif isinstance(module, HuggingFaceLanguageModel | HuggingFaceVisionTower):
            yield from module.blocks()
        elif isinstance(module, HuggingFaceBackbone):
            for blocks in module.blocks():
                yield from blocks


def _seeing(network: nn.Module) -> Iterator[VisionLanguageModel]:
    return (each for each in network.modules() if isinstance(each, VisionLanguageModel))


def _device(mesh: DeviceMesh) -> torch.device:
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(mesh.device_type, torch.accelerator.current_device_index())

"""Policies of cameras and robot states, trained on demonstrations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from policy_interface.types import FloatArray
from trainer.action_token_learner import ActionTokenLearner
from trainer.checkpoint import (
    Checkpoint,
    build_network,
    history_of,
    prompts_of,
    write_checkpoint,
)
from trainer.co_training_learner import CoTrainingLearner
from trainer.data.batches import Batch, TrainingData
from trainer.data.instruction_prompts import InstructionPrompts
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.robot_sources import open_robot_data, robot_sources
from trainer.data.robot_transform import RobotTransform
from trainer.data.sampling import MIXTURE_ORDER
from trainer.data.text.tokenizer import TextTokenizer
from trainer.data.training_chunks import some_chunks
from trainer.learner import Learner, num_threads_of
from trainer.models.action.action_tokens import ActionTokenizer
from trainer.models.action_token_policy import ActionTokenPolicy
from trainer.models.chunk_policy import NO_TOKEN, ChunkPolicy, TellingPolicy
from trainer.models.policy_network import PolicyNetwork
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.open_loop import OpenLoopPlans
from trainer.plotting.predictions import picture_of_plans
from trainer.policy_configuration import PolicyConfig, TrainConfig
from trainer.policy_flops import training_flops_per_window
from trainer.policy_learner import ChunkLearner, PolicyLearner, VisionLanguageActionLearner
from trainer.provenance import describe_data
from trainer.run_directory import RunDirectory
from trainer.stages.policy_beginnings import kept_scales, policy_beginning
from trainer.stages.stage import Measurement, Stage, StepReport
from trainer.validation import Validator
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig

# Of more the most frequent pairs are hardly others.
_MOST_FITTED_CHUNKS = 4096
# Data sets, in the line that says what is trained on.
_MOST_NAMED = 6
# Policies that look are a tenth off and more as soon as they have learnt anything; one whose vision
# had collapsed was off by less than a hundredth.
_BLIND_RATIO = 1.02


def open_policy_stage(config: TrainConfig, run: RunDirectory) -> Callable[[], PolicyStage]:
    """Raises ConfigurationError, DataError, RunError."""
    recordings = read_recordings(open_robot_data(config), config.cameras)
    begun = policy_beginning(config, run, recordings.contract)

    def make() -> PolicyStage:
        return PolicyStage(
            config,
            recordings,
            begin=None if begun is None else begun.give_weights,
            transform=kept_scales(begun, run),
        )

    return make


class PolicyStage(Stage[Learner[Any, Batch], Batch]):
    """tokenizer: of a policy that is told what to do. begin: gives a new network the weights that
    the run begins with. transform: scales of the policy that it begins with. pretrained: a model of
    Hugging Face's in it has those of its folder. action_words: of a policy that tells actions in
    words, these, fitted to chunks (N, T, A) that the run learns from."""

    knows_ranks: ClassVar[bool] = True

    def __init__(
        self,
        config: PolicyConfig,
        recordings: RobotRecordings,
        tokenizer: TextTokenizer | None = None,
        *,
        begin: Callable[[ChunkPolicy], None] | None = None,
        transform: RobotTransform | None = None,
        pretrained: bool = False,
        action_words: Callable[[FloatArray], ActionTokenizer] | None = None,
    ) -> None:
        self._config, self._recordings, self._tokenizer = config, recordings, tokenizer
        self.data_digest = recordings.digest
        prompts, told = None, None
        if isinstance(config, VisionLanguageActionTrainConfig):
            assert tokenizer is not None
            prompts = prompts_of(config, recordings.contract, tokenizer)
            told = InstructionPrompts(recordings, prompts)
        device = torch.device(config.device)
        self._sources = robot_sources(config, recordings)
        if len(self._sources) > 1:
            mixed = f"{recordings.digest}\n{MIXTURE_ORDER}"
            self.data_digest = hashlib.sha256(mixed.encode()).hexdigest()
        held_out = [source.held_out for source in self._sources]
        self._num_training_episodes = sum(len(source.training) for source in self._sources)
        history = history_of(config)
        self._data = TrainingData(
            recordings, self._sources, config, device, told, history, transform
        )
        self._action_tokenizer = None
        if action_words is not None:
            self._action_tokenizer = action_words(self._some_chunks())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build_network(
                config,
                recordings.contract,
                self._data.transform,
                prompts,
                self._action_tokenizer,
                pretrained=pretrained,
            )
        if begin is not None:
            begin(network)
        self.learner = _learner(network, config, device)
        self._flops_per_window = 0.0
        if isinstance(config, VisionLanguageActionTrainConfig) and isinstance(
            network, VisionLanguagePolicy
        ):
            assert isinstance(self.learner, ChunkLearner)
            assert prompts is not None
            self._flops_per_window = training_flops_per_window(
                network.model,
                num_images=len(network.picture_names),
                image_size=config.model.image_size,
                prompt_length=prompts.length,
                repeats=self.learner.repeats,
            )
        # Of the last measurement.
        self._plans: OpenLoopPlans | None = None
        self._validator = None
        if any(held_out):
            self._validator = Validator(
                recordings,
                held_out,
                self._data.transform,
                serving=config.serving,
                # A step's worth fits, or there would be no step.
                windows_at_once=config.micro_batch_size
                or max(1, config.batch_size // self.learner.world.size),
                prompts=told,
                history=history,
            )

    def _some_chunks(self) -> FloatArray:
        training = [place for source in self._sources for place in source.training]
        return some_chunks(
            self._recordings,
            training,
            self._data.transform,
            at_most=_MOST_FITTED_CHUNKS,
            seed=self._config.seed,
        )

    def describe(self) -> str:
        recordings = self._recordings
        shares = ""
        if len(self._sources) > _MOST_NAMED:
            shares = f"{len(self._sources)} data sets, "
        elif len(self._sources) > 1:
            shares = " and ".join(f"{each.name} x {each.weight:g}" for each in self._sources) + ", "
        return (
            f"{shares}{self._num_training_episodes} of {recordings.num_episodes} episodes "
            f"({recordings.num_steps} frames, {len(recordings.contract.cameras)} cameras"
            f"{self._held_out_otherwise()})"
        )

    def _held_out_otherwise(self) -> str:
        asked = self._config.validation_episodes
        found = [len(source.held_out) for source in self._sources]
        if all(number == asked for number in found):
            return ""
        each = " of each" if len(found) > 1 else ""
        return (
            f"; {' and '.join(map(str, found))} held out, not the {asked}{each} of "
            "--validation-episodes: at most a fifth"
        )

    @property
    def tasks(self) -> Sequence[str]:
        return self._recordings.tasks

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return self._data.batches(start, stop)

    def step(self, batch: Batch, step: int) -> StepReport:
        return StepReport(
            result=self.learner.step(batch, step, self._data.generator(step)),
            counts={"samples": self._config.batch_size, **self._num_tokens(batch)},
            flops=self._config.batch_size * self._flops_per_window,
        )

    def _num_tokens(self, batch: Batch) -> dict[str, int]:
        """Of all ranks: of prompts without padding, and what an expert computes of all draws."""
        if batch.prompt is None:
            return {}
        learner = self.learner
        num_own = int((batch.prompt != NO_TOKEN).sum())
        counts = {"prompt_tokens": learner.world.total([num_own], learner.device)[0]}
        if isinstance(learner, ChunkLearner) and isinstance(learner.network, VisionLanguagePolicy):
            num_drawn = self._config.batch_size * learner.repeats
            counts["expert_tokens"] = num_drawn * learner.network.model.expert.num_tokens
        return counts

    def measure(self) -> Measurement | None:
        if self._validator is None:
            return None
        with self.learner.averaged() as network:
            if isinstance(network, TellingPolicy):
                network.num_told = network.num_malformed = 0
            self._plans = self._validator.plan(network)
            error = self._plans.executed_error()
            scalars: dict[str, float] = asdict(error)
            if isinstance(network, TellingPolicy):
                scalars["malformed_fraction"] = network.num_malformed / network.num_told
            with_others = self._validator.plan_with_other_images(network).executed_error()
            other_words = self._validator.plan_with_other_words(network)
        scalars["position_with_other_images_mm"] = with_others.position_mm
        told = _told_of_sight(error.position_mm, with_others.position_mm)
        if other_words is not None:
            with_other_words_mm = other_words.executed_error().position_mm
            scalars["position_with_other_words_mm"] = with_other_words_mm
            told = f"{with_other_words_mm:.1f} mm with another task's words, {told}"
        for number, at_action in self._plans.error_by_action().items():
            for quantity, value in asdict(at_action).items():
                what, _, unit = quantity.rpartition("_")
                scalars[f"{what}_at_action_{number}_{unit}"] = value
        for source in self._sources if len(self._sources) > 1 else ():
            numbers = [self._recordings.episodes[place] for place in source.held_out]
            if numbers:
                own = asdict(self._plans.executed_error(numbers))
                scalars |= {f"{source.name}_{quantity}": value for quantity, value in own.items()}
        return Measurement(
            scalars=scalars,
            told=(
                f"held-out action error {error.position_mm:.1f} mm, "
                f"{error.rotation_deg:.1f} deg, gripper {error.gripper_mm:.1f} mm, {told}"
            ),
        )

    def pictures(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        if self._plans is None:
            return {}
        return {"plans": picture_of_plans(self._config.name, self._plans)}

    def write_checkpoint(self, path: Path, provenance: Mapping[str, Any]) -> None:
        error = None if self._plans is None else asdict(self._plans.executed_error())
        write_checkpoint(
            Checkpoint(
                weights=self.learner.ema,
                config=self._config,
                transform=self._data.transform,
                contract=self._recordings.contract,
                tokenizer=None if self._tokenizer is None else self._tokenizer.content(),
                action_tokenizer=self._action_tokenizer,
                provenance={
                    **provenance,
                    "held_out_action_error": error,
                    **describe_data(self._recordings, self._num_training_episodes),
                },
            ),
            path,
        )

    def close(self) -> None:
        self._data.close()


def _told_of_sight(error_mm: float, with_other_images_mm: float) -> str:
    told = f"{with_other_images_mm:.1f} mm with others' images"
    is_blind = with_other_images_mm <= _BLIND_RATIO * error_mm
    return f"{told}: blind so far" if is_blind else told


def _learner(
    network: ChunkPolicy, config: PolicyConfig, device: torch.device
) -> Learner[Any, Batch]:
    num_threads = num_threads_of(config)
    if isinstance(network, ActionTokenPolicy):
        assert isinstance(config, VisionLanguageActionTrainConfig)
        return ActionTokenLearner(network, config, device, num_threads=num_threads)
    if isinstance(config, VisionLanguageActionTrainConfig):
        assert isinstance(network, VisionLanguagePolicy)
        kind = CoTrainingLearner if config.also.data else VisionLanguageActionLearner
        return kind(network, config, device, num_threads=num_threads)
    assert isinstance(network, PolicyNetwork)
    assert isinstance(config, TrainConfig)
    return PolicyLearner(network, config, device, num_threads=num_threads)

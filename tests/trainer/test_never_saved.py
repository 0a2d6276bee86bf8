"""Runs that were killed before they had saved anything: what they left in their folders binds no
other command there, and is used again where it is of the same data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from policy_interface.demonstration import demonstration_path, save_demonstration
from tests.trainer.conftest import CAMERAS, synthetic_demonstration
from tests.trainer.language.runs import sentences
from tests.trainer.pictures import picture, write_colours
from tests.trainer.small_models import EXPERT, LANGUAGE, VISION
from trainer.co_training_configuration import AlsoConfig
from trainer.data.text.tokenizer import TextTokenizer, train_tokenizer
from trainer.language_configuration import LanguageTrainConfig
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory
from trainer.stages.beginnings import shaped_like_its_beginning
from trainer.stages.catalog import open_stage
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig

_SHORT = {"num_steps": 2, "device": "cpu", "precision": "float32", "num_threads": 1}
_SEEING = {"language": replace(LANGUAGE, context_length=48), "vision": VISION, "image_size": 32}


def write_scenes(folder: Path, first: int) -> None:
    """Sixteen pictures of other colours, and questions about them."""
    colours = [("red", "green", "blue")[(first + n // 2) % 3] for n in range(16)]
    write_colours(folder, ((picture(c, "left", first + n), c) for n, c in enumerate(colours)))


def write_text(folder: Path, first: int) -> None:
    """Of as many bytes, whatever it says."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"text": f"{sentences(first + n, 8):.150}"}) for n in range(60)]
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n")


def language(folder: Path, **options: object) -> LanguageTrainConfig:
    return replace(
        LanguageTrainConfig(
            data=str(folder),
            batch_size=4,
            validation_documents=4,
            model=LANGUAGE,
            **_SHORT,
        ),
        **options,
    )


def in_portions(folder: Path) -> LanguageTrainConfig:
    return language(folder, portions_above_mib=0.001)


def seeing(folder: Path) -> VisionLanguageTrainConfig:
    return VisionLanguageTrainConfig(
        data=str(folder),
        batch_size=4,
        validation_documents=4,
        model=VisionLanguageShape(**_SEEING),
        **_SHORT,
    )


def acting(demonstrations: Path, **options: object) -> VisionLanguageActionTrainConfig:
    shape = VisionLanguageActionShape(**_SEEING, expert=EXPERT, instruction_tokens=20)
    return replace(
        VisionLanguageActionTrainConfig(
            data=str(demonstrations),
            chunk_length=8,
            batch_size=4,
            validation_episodes=0,
            # As a run that begins with a policy has them.
            cameras=tuple(CAMERAS),
            model=shape,
            **_SHORT,
        ),
        **options,
    )


def begin(config: RunConfig, root: Path) -> tuple[str, object]:
    """Up to the first step: the digest of the data, and the words."""
    root.mkdir(exist_ok=True)
    run = RunDirectory(root=root)
    config = shaped_like_its_beginning(config, run)
    with run.claimed(config), open_stage(config, run)() as stage:
        return stage.data_digest, TextTokenizer(run.tokenizer).content()


def files(root: Path) -> dict[str, int]:
    """The corpora's, by inode."""
    return {
        str(path.relative_to(root)): path.stat().st_ino
        for path in root.rglob("corpus/**/*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("write", "made"),
    [(write_text, language), (write_text, in_portions), (write_scenes, seeing)],
    ids=["text", "portions", "pictures"],
)
def test_other_data_at_the_same_place_are_learnt(
    write: Callable[[Path, int], None], made: Callable[[Path], RunConfig], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    config = made(data)
    write(data, 0)
    before = begin(config, tmp_path / "run")
    kept = files(tmp_path / "run")
    assert begin(config, tmp_path / "run") == before
    assert made is in_portions or files(tmp_path / "run") == kept
    write(data, 100)
    after = begin(config, tmp_path / "run")
    assert after == begin(config, tmp_path / "new")
    assert after[0] != before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("origin", ["", "[1]", '{"documents": 1}', "[" * 100_000])
def test_what_is_of_unknown_data_is_made_anew(tmp_path: Path, origin: str) -> None:
    write_text(tmp_path / "data", 0)
    config, run = language(tmp_path / "data"), tmp_path / "run"
    before = begin(config, run)
    kept = files(run)
    (run / "corpus" / "origin.json").write_text(origin)
    assert begin(config, run) == before
    assert files(run).keys() == kept.keys()
    assert (run / "corpus" / "origin.json").read_text() != origin


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_policy_learns_other_data_beside_it(
    demonstration_folder: Path, tmp_path: Path, *, is_asked: bool
) -> None:
    scenes, words = tmp_path / "scenes", tmp_path / "words.json"
    also = AlsoConfig(data=(f"{scenes}=1",), validation_documents=4)
    config = acting(demonstration_folder, also=also)
    if is_asked:
        train_tokenizer([sentences(0, 200)], 280, words)
        config = replace(config, tokenizer=str(words))
    write_scenes(scenes, 0)
    before = begin(config, tmp_path / "run")
    kept = files(tmp_path / "run")
    assert begin(config, tmp_path / "run") == before
    assert files(tmp_path / "run") == kept
    write_scenes(scenes, 100)
    after = begin(config, tmp_path / "run")
    assert after == begin(config, tmp_path / "new")
    assert after[0] != before[0]


def test_words_of_what_another_run_began_with_are_not_kept(
    demonstration_folder: Path, tmp_path: Path
) -> None:
    scenes, others = tmp_path / "scenes", tmp_path / "others"
    write_scenes(scenes, 0)
    others.mkdir()
    for index in range(5):
        other = replace(synthetic_demonstration(index), instruction="Reach the red square.")
        save_demonstration(other, demonstration_path(others, index))
    policy = train(acting(demonstration_folder), tmp_path / "policy").resolve()
    also = AlsoConfig(data=(f"{scenes}=1",), validation_documents=4)
    for name, config in (("plain", acting(others)), ("also", acting(others, also=also))):
        expected = begin(config, tmp_path / f"{name}_new")
        begin(replace(config, init=str(policy)), tmp_path / name)
        assert begin(config, tmp_path / name) == expected

    model = train(seeing(scenes), tmp_path / "model").resolve()
    write_scenes(scenes, 100)
    expected = begin(seeing(scenes), tmp_path / "seeing_new")
    begin(replace(seeing(scenes), init=str(model)), tmp_path / "seeing")
    assert begin(seeing(scenes), tmp_path / "seeing") == expected


def test_what_has_saved_is_not_made_anew(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_text(data, 0)
    train(language(data), tmp_path / "run")
    kept = files(tmp_path / "run")
    shutil.rmtree(data)
    train(language(data, num_steps=3), tmp_path / "run")
    assert files(tmp_path / "run") == kept

"""What a vision-language model says about held-out pictures."""

from __future__ import annotations

from trainer.models.hugging_face_answers import HuggingFaceAnswerer
from trainer.models.language.generation import GenerationConfig
from trainer.models.vision_language import VisionLanguageModel
from trainer.plotting.answers import Answered
from trainer.stages.language_data import LanguageData
from trainer.vision_language_answers import answer
from trainer.vision_language_configuration import VisionLanguageTrainConfig
from trainer.vision_language_learner import read_picture


def answers_about(
    data: LanguageData,
    config: VisionLanguageTrainConfig,
    model: VisionLanguageModel | HuggingFaceAnswerer,
) -> list[Answered]:
    """To the first question about each of the first pictures, as many as the configuration has."""
    shown, size = data.shown, config.model.image_size
    drawn = GenerationConfig(max_new_tokens=config.sample_tokens, temperature=0.0)
    answers: list[Answered] = []
    for index in range(0 if shown is None else len(shown)):
        if len(answers) == config.num_answers:
            break
        assert shown is not None
        document = shown.document(index)
        if not document.images or len(document.turns) < 2:
            continue
        question, right = document.turns[:2]
        said = answer(
            model, data.vocabulary, question.text, document.images, image_size=size, drawn=drawn
        )
        answers.append(
            Answered(
                picture=read_picture(document.images[0], size),
                question=question.text,
                said=said,
                right=right.text,
            )
        )
    return answers


def in_words(answers: list[Answered]) -> dict[str, str]:
    """By number: what was asked, what was said, and what is right."""
    return {
        str(number): f"{one.asked} -> {one.said} (right: {one.right})"
        for number, one in enumerate(answers)
    }

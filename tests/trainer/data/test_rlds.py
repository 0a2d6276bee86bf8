"""RLDS data sets, made here by the layout that TensorFlow Datasets documents. The examples are
encoded by protobuf itself, from the public definition of tf.train.Example."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

from tests.trainer.data.numbered_data import numbered_frame, shown_numbers
from trainer.data.conversion import Source, convert
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.native_writer import NativeWriter
from trainer.data.formats.tfrecord import FeatureList, crc32c, masked_crc32c

LENGTHS = (6, 4, 5)


def _messages() -> dict[str, Any]:
    """tensorflow/core/example/{example,feature}.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        made = file.message_type.add(name=name)
        for field, number, label, kind, type_name in fields:
            added = made.field.add(name=field, number=number, label=label, type=kind)
            if type_name:
                added.type_name = type_name
        return made

    repeated, optional = kinds.LABEL_REPEATED, kinds.LABEL_OPTIONAL
    message("BytesList", ("value", 1, repeated, kinds.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, repeated, kinds.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, repeated, kinds.TYPE_INT64, ""))
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes", "float", "int64"), start=1):
        kind = f".tf.{name.title()}List"
        feature.field.add(
            name=f"{name}_list", number=number, label=optional, type=kinds.TYPE_MESSAGE,
            type_name=kind, oneof_index=0,
        )  # fmt: skip
    features = message(
        "Features", ("feature", 1, repeated, kinds.TYPE_MESSAGE, ".tf.Features.FeatureEntry")
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=optional, type=kinds.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=optional, type=kinds.TYPE_MESSAGE, type_name=".tf.Feature"
    )
    message("Example", ("features", 1, optional, kinds.TYPE_MESSAGE, ".tf.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["example.proto"], pool)


Example = _messages()["tf.Example"]


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG")
    return buffer.getvalue()


def _record(first: int, num_steps: int, *, num_actions: int | None = None) -> bytes:
    example = Example()
    lists = example.features.feature
    numbers = np.arange(first, first + num_steps)
    lists["steps/observation/image"].bytes_list.value.extend(
        _png(numbered_frame(int(number))) for number in numbers
    )
    state = np.stack([numbers, -numbers / 3], axis=1).astype(np.float32)
    lists["steps/observation/state"].float_list.value.extend(state.reshape(-1).tolist())
    actions = numbers[:num_actions] * 1000003 - 7
    lists["steps/action"].int64_list.value.extend(np.repeat(actions, 3).tolist())
    lists["steps/is_last"].int64_list.value.extend((numbers == numbers[-1]).astype(int).tolist())
    texts = ["open it" if number < first + 3 else "close it" for number in numbers]
    lists["steps/language_instruction"].bytes_list.value.extend(text.encode() for text in texts)
    lists["episode_metadata/file_path"].bytes_list.value.append(b"raw/0.h5")
    lists["episode_metadata/success"].int64_list.value.append(1)
    return example.SerializeToString()


def _tfrecord(records: list[bytes]) -> bytes:
    written = b""
    for data in records:
        length = struct.pack("<Q", len(data))
        written += length + struct.pack("<I", masked_crc32c(length))
        written += data + struct.pack("<I", masked_crc32c(data))
    return written


def _tensor(dtype: str, *shape: int) -> dict[str, Any]:
    dimensions = {"dimensions": [str(side) for side in shape]} if shape else {}
    return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": "none"}}


def _dict(**features: Any) -> dict[str, Any]:
    return {"featuresDict": {"features": features}}


FEATURES = _dict(
    steps={
        "sequence": {
            "feature": _dict(
                observation=_dict(
                    image={
                        "image": {
                            "shape": {"dimensions": ["32", "64", "3"]},
                            "dtype": "uint8",
                            "encodingFormat": "png",
                        }
                    },
                    state=_tensor("float64", 2),
                ),
                action=_tensor("int64", 3),
                is_last=_tensor("bool"),
                language_instruction={"text": {}},
            ),
            "length": "-1",
        }
    },
    episode_metadata=_dict(file_path={"text": {}}, success=_tensor("bool")),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    version = tmp_path / "toy" / "1.0.0"
    version.mkdir(parents=True)
    starts = np.concatenate([[0], np.cumsum(LENGTHS)]).tolist()
    records = [_record(first, length) for first, length in zip(starts, LENGTHS, strict=False)]
    (version / "toy-train.tfrecord-00000-of-00002").write_bytes(_tfrecord(records[:1]))
    (version / "toy-train.tfrecord-00001-of-00002").write_bytes(_tfrecord(records[1:2]))
    (version / "toy-val.tfrecord-00000-of-00001").write_bytes(_tfrecord(records[2:]))
    info = {
        "name": "toy",
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "splits": [
            {"name": "train", "shardLengths": ["1", "1"]},
            {"name": "val", "shardLengths": ["1"]},
        ],
    }
    (version / "dataset_info.json").write_text(json.dumps(info))
    (version / "features.json").write_text(json.dumps(FEATURES))
    return tmp_path / "toy"


def test_checksums_are_those_of_the_standard() -> None:
    # RFC 3720, appendix B.4, and the check value of CRC-32C.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def test_long_data_have_the_checksum_of_their_parts() -> None:
    """Long data are worked through in lanes; zeros before the data tell the lanes' join apart."""
    data = np.random.default_rng(0).integers(0, 256, 300_001, dtype=np.uint8).tobytes()
    # The remainder of data followed by its own complemented remainder is the code's constant.
    assert crc32c(data + struct.pack("<I", crc32c(data))) == 0x48674BC7
    assert crc32c(data[:-1] + bytes([data[-1] ^ 1])) != crc32c(data)


def test_what_is_stored_is_read(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert dataset.format_name == "rlds"
    ids = [episode.description.episode_id for episode in dataset]
    assert ids == ["train_000000", "train_000001", "val_000000"]
    first = 0
    for episode, length in zip(dataset, LENGTHS, strict=True):
        description = episode.description
        numbers = np.arange(first, first + length)
        assert description.num_steps == length
        assert description.success is True
        assert description.provenance["episode_metadata/file_path"] == "raw/0.h5"
        state = episode.read("observation/state")
        assert state.dtype == np.float64
        np.testing.assert_array_equal(state[:, 0], numbers)
        action = episode.read("action", 1, 3)
        np.testing.assert_array_equal(
            action, np.repeat(numbers[1:3, None] * 1000003 - 7, 3, axis=1)
        )
        assert episode.read("is_last").tolist() == [False] * (length - 1) + [True]
        steps = [length - 1, 0, 2]
        shown = shown_numbers(episode.frames("observation/image", steps))
        assert shown == [first + step for step in steps]
        assert np.isnan(episode.times_s()).all()
        first += length
    description = dataset.episode(0).description
    assert description.fields["observation/state"].role == "observed"
    assert description.fields["action"].role == "action"
    files = dataset.episode(0).encoded_frames("observation/image", [1])
    assert files is not None
    assert files[0].startswith(b"\x89PNG")


def test_instruction_of_each_step(folder: Path) -> None:
    episode = open_dataset(folder).episode(0)
    assert episode.description.instructions == {"original": ("open it", "close it")}
    assert episode.read("instruction_index").tolist() == [0, 0, 0, 1, 1, 1]


def test_conversion_to_the_training_format(folder: Path, tmp_path: Path) -> None:
    destination = tmp_path / "native"
    destination.mkdir()
    convert(Source.at(folder), NativeWriter(destination=destination))
    back = open_dataset(destination)
    for got, expected in zip(back, open_dataset(folder), strict=True):
        np.testing.assert_array_equal(got.read("action"), expected.read("action"))
        assert got.description.rate_hz is None


def test_misspelt_field_is_answered_with_the_near_one(folder: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'action'"):
        open_dataset(folder).episode(0).read("acton")


@pytest.mark.parametrize("cut", [1, 100, 0.5])
def test_truncated_file_is_an_error(folder: Path, cut: float) -> None:
    file = folder / "1.0.0" / "toy-train.tfrecord-00001-of-00002"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * cut) if cut < 1 else -int(cut)])
    with pytest.raises(DataError, match=r"00001-of-00002: truncated in the record at byte 0"):
        open_dataset(folder)


def test_corrupt_record_names_the_episode_and_leaves_the_others(folder: Path) -> None:
    file = folder / "1.0.0" / "toy-train.tfrecord-00001-of-00002"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    dataset = open_dataset(folder)
    with pytest.raises(DataError, match=r"train_000001.*its checksum differs"):
        dataset.episode(1)
    assert dataset.episode(2).description.num_steps == 5


def test_missing_shard_and_missing_episode_are_errors(folder: Path) -> None:
    file = folder / "1.0.0" / "toy-train.tfrecord-00001-of-00002"
    file.write_bytes(b"")
    with pytest.raises(DataError, match="tells of 1 episodes, the file holds 0"):
        open_dataset(folder)
    file.unlink()
    with pytest.raises(DataError, match="00001-of-00002: no such file"):
        open_dataset(folder)


def test_lists_of_other_lengths_are_an_error(folder: Path) -> None:
    file = folder / "1.0.0" / "toy-val.tfrecord-00000-of-00001"
    file.write_bytes(_tfrecord([_record(0, 5, num_actions=4)]))
    with pytest.raises(DataError, match=r"val_000000.*differ in length.*'action': 4"):
        open_dataset(folder).episode(2)


def test_record_of_another_kind_is_an_error(folder: Path) -> None:
    file = folder / "1.0.0" / "toy-val.tfrecord-00000-of-00001"
    file.write_bytes(_tfrecord([b"\xff" * 40]))
    with pytest.raises(DataError, match=r"val_000000.*no protobuf message"):
        open_dataset(folder).episode(2)
    file.write_bytes(_tfrecord([b""]))
    with pytest.raises(DataError, match=r"val_000000.*no such list"):
        open_dataset(folder).episode(2)


def test_number_that_does_not_end_is_an_error() -> None:
    """At once: each byte of the longest number would be a pass over all numbers."""
    integers = 3
    whole, endless = (memoryview(b"\xff" * count + b"\x01") for count in (9, 1_000_000))
    assert FeatureList(integers, (whole,)).numbers().tolist() == [-1]
    with pytest.raises(ValueError, match="a number does not end"):
        FeatureList(integers, (endless,)).numbers()


def test_information_of_any_depth_is_an_error(folder: Path) -> None:
    for name in ("dataset_info.json", "features.json"):
        (file,) = folder.rglob(name)
        file.write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"dataset_info\.json: no JSON"):
        open_dataset(folder)


def test_data_set_without_steps_is_an_error(folder: Path) -> None:
    (folder / "1.0.0" / "features.json").write_text(json.dumps(_dict(image=_tensor("uint8", 3))))
    with pytest.raises(DataError, match="no RLDS data set"):
        open_dataset(folder)

"""Change one thing in a protobuf message: what random bytes would take for ever to reach.

A flipped byte in a serialised message mostly breaks its framing, and the parser ends the matter. So
a message is changed as a message: one field of it, anywhere, to a value that its type can hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

# Atheris's own mutator of bytes: it remembers what reached new code.
MutateBytes = Callable[[bytes, int], bytes]

_MAX_FIELD_BYTES = 1 << 16
_INTEGER_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (32, True),
    FieldDescriptor.CPPTYPE_INT64: (64, True),
    FieldDescriptor.CPPTYPE_UINT32: (32, False),
    FieldDescriptor.CPPTYPE_UINT64: (64, False),
    # Open enumerations, as proto3 has them, take any number.
    FieldDescriptor.CPPTYPE_ENUM: (32, True),
}
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-310, 1e30, 1e300, float("inf"), float("-inf"), float("nan"))


def mutate_message(message: Message, generator: random.Random, mutate_bytes: MutateBytes) -> None:
    """Change one field, in place."""
    owner = generator.choice(list(_messages(message)))
    field = generator.choice(owner.DESCRIPTOR.fields)
    mutate = _mutate_repeated if field.is_repeated else _mutate_single
    mutate(owner, field, generator, mutate_bytes)


def _messages(message: Message) -> Iterator[Message]:
    """The message and all messages within it."""
    yield message
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                yield from _messages(each)


def _mutate_single(
    owner: Message, field: Any, generator: random.Random, mutate_bytes: MutateBytes
) -> None:
    if generator.random() < 0.1:
        owner.ClearField(field.name)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        getattr(owner, field.name).SetInParent()
    else:
        old = getattr(owner, field.name)
        setattr(owner, field.name, _mutated_value(field, old, generator, mutate_bytes))


def _mutate_repeated(
    owner: Message, field: Any, generator: random.Random, mutate_bytes: MutateBytes
) -> None:
    values = getattr(owner, field.name)
    index = generator.randrange(len(values)) if len(values) else None
    choice = generator.choice(("remove", "copy", "change"))
    if index is None:
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            values.add()
        else:
            values.append(_mutated_value(field, field.default_value or 0, generator, mutate_bytes))
    elif choice == "remove":
        del values[index]
    elif choice == "copy":
        values.append(values[index])
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        values[index].CopyFrom(generator.choice(values))
    else:
        values[index] = _mutated_value(field, values[index], generator, mutate_bytes)


def _mutated_value(
    field: Any, old: Any, generator: random.Random, mutate_bytes: MutateBytes
) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        is_text = field.type == FieldDescriptor.TYPE_STRING
        data = mutate_bytes(old.encode() if is_text else old, _MAX_FIELD_BYTES)
        return data.decode(errors="ignore") if is_text else data
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return not old
    if field.cpp_type in _INTEGER_BITS:
        return _mutated_integer(old, *_INTEGER_BITS[field.cpp_type], generator)
    return generator.choice((*_FLOATS, old + generator.gauss(0, 1e-4), old * 2))


def _mutated_integer(old: int, bits: int, is_signed: bool, generator: random.Random) -> int:
    least = -(1 << bits - 1) if is_signed else 0
    greatest = least + (1 << bits) - 1
    candidates = (0, 1, 2, 3, 4, -1, 255, 1 << 16, old + 1, old - 1, old * 2, least, greatest)
    return min(max(generator.choice(candidates), least), greatest)

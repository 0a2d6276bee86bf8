"""TensorFlow's record files and the examples in them, without TensorFlow.

A file is records one after the other: the length (8 bytes), its checksum (4), the data, their
checksum (4), all little-endian. The checksums are CRC-32C, rotated and offset. A record of a data
set is a `tf.train.Example`: a map from names to lists of bytes, floats or integers, in protobuf's
wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError
from trainer.data.locations import Location

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
# Of CRC-32C (Castagnoli), bits reversed.
_POLYNOMIAL = 0x82F63B78
_LANES = 2048
# Of a number in protobuf's wire format, whose bytes hold seven bits each.
_LONGEST_VARINT = 10

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Record:
    """Where a record's data are in a file."""

    file: Location
    offset: int
    size: int

    def read(self) -> bytes:
        """Raises DataError where the data are cut short or differ from their checksum."""
        with self.file.open() as stream:
            stream.seek(self.offset)
            data = stream.read(self.size)
            footer = stream.read(_FOOTER.size)
        if len(data) != self.size or len(footer) != _FOOTER.size:
            raise DataError(f"truncated in the record at byte {self.offset}", where=self.file)
        if _FOOTER.unpack(footer)[0] != masked_crc32c(data):
            raise DataError(
                f"the record at byte {self.offset} is corrupt: its checksum differs",
                where=self.file,
            )
        return data


def list_records(file: Location) -> list[Record]:
    """Raises DataError for a file that is missing, truncated or of another kind."""
    try:
        size = file.size()
        with file.open() as stream:
            return list(_records(file, stream, size))
    except FileNotFoundError as error:
        raise DataError("no such file", where=file) from error


def _records(file: Location, stream: IO[bytes], size: int) -> Iterator[Record]:
    offset = 0
    while offset < size:
        stream.seek(offset)
        header = stream.read(_HEADER.size)
        if len(header) != _HEADER.size:
            raise DataError(f"truncated at byte {offset}", where=file)
        length, checksum = _HEADER.unpack(header)
        if checksum != masked_crc32c(header[:8]):
            raise DataError(f"no record at byte {offset}: corrupt, or no TFRecord", where=file)
        end = offset + _HEADER.size + length + _FOOTER.size
        if end > size:
            raise DataError(f"truncated in the record at byte {offset}", where=file)
        yield Record(file, offset + _HEADER.size, length)
        offset = end


@dataclass(frozen=True)
class FeatureList:
    """One of an example's lists. Numbers are read only when they are asked for."""

    kind: int
    values: tuple[memoryview, ...]

    def bytes_list(self) -> list[bytes]:
        return [bytes(value) for value in self.values]

    def numbers(self) -> npt.NDArray[Any]:
        """float32 or int64."""
        if self.kind == _FLOATS:
            return np.concatenate([np.frombuffer(v, "<f4") for v in self.values] or [_NO_FLOATS])
        return np.concatenate([_varints(v) for v in self.values] or [_NO_INTEGERS])


_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
_NO_FLOATS, _NO_INTEGERS = np.zeros(0, np.float32), np.zeros(0, np.int64)


def parse_example(data: bytes) -> dict[str, FeatureList]:
    """The lists of a `tf.train.Example`, by name. Raises ValueError for anything else."""
    lists: dict[str, FeatureList] = {}
    for number, features in _fields(memoryview(data)):
        if number != 1:
            continue
        for entry_number, entry in _fields(features):
            if entry_number == 1:
                parts = dict(_fields(entry))
                lists[str(parts.get(1, b""), "utf-8")] = _feature(parts.get(2, memoryview(b"")))
    return lists


def _feature(data: memoryview) -> FeatureList:
    for kind, values in _fields(data):
        if kind in (_BYTES, _FLOATS, _INTEGERS):
            return FeatureList(kind, tuple(value for n, value in _fields(values) if n == 1))
    return FeatureList(_BYTES, ())


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field of a message; of a number, the bytes that encode it."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire_type, start = tag & 7, position
        if wire_type == _LENGTH_DELIMITED:
            length, start = _varint(data, position)
            position = start + length
        elif wire_type == _VARINT:
            _, position = _varint(data, position)
        elif wire_type in (_FIXED32, _FIXED64):
            position += 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"no protobuf message: wire type {wire_type}")
        if position > len(data):
            raise ValueError("no protobuf message: a field reaches beyond its end")
        yield tag >> 3, data[start:position]


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("no protobuf message: a number does not end")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _varints(packed: memoryview) -> npt.NDArray[np.int64]:
    """Numbers one after the other; a negative one is written as 64 bits of two's complement."""
    raw = np.frombuffer(packed, np.uint8)
    last = np.flatnonzero(raw < 0x80)
    if len(raw) and (not len(last) or last[-1] != len(raw) - 1):
        raise ValueError("no protobuf message: a number does not end")
    first = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    values = np.zeros(len(last), np.uint64)
    longest = int((last - first).max(initial=-1)) + 1
    if longest > _LONGEST_VARINT:
        raise ValueError("no protobuf message: a number does not end")
    for place in range(longest):
        there = first + place <= last
        bits = (raw[np.minimum(first + place, last)] & 0x7F).astype(np.uint64)
        values |= np.where(there, bits << np.uint64(7 * place), np.uint64(0))
    return values.view(np.int64)


def masked_crc32c(data: bytes) -> int:
    """As TensorFlow stores it: a checksum of data that hold checksums is else a weak one."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4. Long data are cut in lanes that are worked through side by side."""
    length = len(data) // _LANES
    register = 0xFFFFFFFF
    if length >= 16:
        lanes = np.frombuffer(data, np.uint8, _LANES * length).reshape(_LANES, length)
        registers = np.zeros(_LANES, np.uint32)
        for column in np.ascontiguousarray(lanes.T):
            registers = _TABLE[(registers ^ column) & 0xFF] ^ (registers >> np.uint32(8))
        append_zeros = _zeros_operator(length)
        for lane in registers.tolist():
            register = append_zeros(register) ^ lane
        data = data[_LANES * length :]
    for byte in data:
        register = _TABLE_LIST[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def _make_table() -> npt.NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = (table & 1).astype(bool)
        table = np.where(odd, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _make_table()
_TABLE_LIST = _TABLE.tolist()


def _zeros_operator(num_bytes: int):
    """What the register becomes when so many zero bytes follow: linear in its bits."""
    power = [_TABLE_LIST[(1 << bit) & 0xFF] ^ ((1 << bit) >> 8) for bit in range(32)]
    result = [1 << bit for bit in range(32)]
    while num_bytes:
        if num_bytes & 1:
            result = [_apply(power, column) for column in result]
        power = [_apply(power, column) for column in power]
        num_bytes >>= 1
    # By the register's bytes, so that applying it is four look-ups.
    tables = [[_apply(result, byte << (8 * place)) for byte in range(256)] for place in range(4)]

    def append(register: int) -> int:
        return (
            tables[0][register & 0xFF]
            ^ tables[1][(register >> 8) & 0xFF]
            ^ tables[2][(register >> 16) & 0xFF]
            ^ tables[3][register >> 24]
        )

    return append


def _apply(operator: list[int], register: int) -> int:
    found, bit = 0, 0
    while register:
        if register & 1:
            found ^= operator[bit]
        register, bit = register >> 1, bit + 1
    return found

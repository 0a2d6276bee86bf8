from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyResetRequest(_message.Message):
    __slots__ = ("client_identifier", "seed", "station_contract", "policy")
    CLIENT_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STATION_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    client_identifier: str
    seed: int
    station_contract: str
    policy: str
    def __init__(self, client_identifier: _Optional[str] = ..., seed: _Optional[int] = ..., station_contract: _Optional[str] = ..., policy: _Optional[str] = ...) -> None: ...

class PolicyResetResponse(_message.Message):
    __slots__ = ("success",)
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    success: bool
    def __init__(self, success: bool = ...) -> None: ...

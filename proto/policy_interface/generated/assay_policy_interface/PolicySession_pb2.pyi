from ..lbm_policy_interface import GetPolicyMetadata_pb2 as _GetPolicyMetadata_pb2
from ..lbm_policy_interface import PolicyStep_pb2 as _PolicyStep_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandshakeRequest(_message.Message):
    __slots__ = ("station_contract", "policy")
    STATION_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    station_contract: str
    policy: str
    def __init__(self, station_contract: _Optional[str] = ..., policy: _Optional[str] = ...) -> None: ...

class HandshakeResponse(_message.Message):
    __slots__ = ("policy_contract", "differences", "policy_metadata", "policy_names")
    POLICY_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    POLICY_METADATA_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAMES_FIELD_NUMBER: _ClassVar[int]
    policy_contract: str
    differences: _containers.RepeatedScalarFieldContainer[str]
    policy_metadata: _GetPolicyMetadata_pb2.PolicyMetadata
    policy_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy_contract: _Optional[str] = ..., differences: _Optional[_Iterable[str]] = ..., policy_metadata: _Optional[_Union[_GetPolicyMetadata_pb2.PolicyMetadata, _Mapping]] = ..., policy_names: _Optional[_Iterable[str]] = ...) -> None: ...

class EpisodeBegin(_message.Message):
    __slots__ = ("seed", "station_contract", "policy")
    SEED_FIELD_NUMBER: _ClassVar[int]
    STATION_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    seed: int
    station_contract: str
    policy: str
    def __init__(self, seed: _Optional[int] = ..., station_contract: _Optional[str] = ..., policy: _Optional[str] = ...) -> None: ...

class EpisodeStep(_message.Message):
    __slots__ = ("observation", "wants_chunk", "control_step")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    WANTS_CHUNK_FIELD_NUMBER: _ClassVar[int]
    CONTROL_STEP_FIELD_NUMBER: _ClassVar[int]
    observation: _PolicyStep_pb2.MultiarmObservation
    wants_chunk: bool
    control_step: int
    def __init__(self, observation: _Optional[_Union[_PolicyStep_pb2.MultiarmObservation, _Mapping]] = ..., wants_chunk: bool = ..., control_step: _Optional[int] = ...) -> None: ...

class EpisodeRequest(_message.Message):
    __slots__ = ("begin", "step")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    begin: EpisodeBegin
    step: EpisodeStep
    def __init__(self, begin: _Optional[_Union[EpisodeBegin, _Mapping]] = ..., step: _Optional[_Union[EpisodeStep, _Mapping]] = ...) -> None: ...

class EpisodeBegun(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class EpisodeResponse(_message.Message):
    __slots__ = ("begun", "step")
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    begun: EpisodeBegun
    step: _PolicyStep_pb2.PolicyStepResponse
    def __init__(self, begun: _Optional[_Union[EpisodeBegun, _Mapping]] = ..., step: _Optional[_Union[_PolicyStep_pb2.PolicyStepResponse, _Mapping]] = ...) -> None: ...

class EndEpisodeRequest(_message.Message):
    __slots__ = ("client_identifier",)
    CLIENT_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    client_identifier: str
    def __init__(self, client_identifier: _Optional[str] = ...) -> None: ...

class EndEpisodeResponse(_message.Message):
    __slots__ = ("was_known",)
    WAS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    was_known: bool
    def __init__(self, was_known: bool = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("reason", "field", "message", "retry_after_ms", "session", "control_step")
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONTROL_STEP_FIELD_NUMBER: _ClassVar[int]
    reason: str
    field: str
    message: str
    retry_after_ms: int
    session: str
    control_step: int
    def __init__(self, reason: _Optional[str] = ..., field: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., session: _Optional[str] = ..., control_step: _Optional[int] = ...) -> None: ...

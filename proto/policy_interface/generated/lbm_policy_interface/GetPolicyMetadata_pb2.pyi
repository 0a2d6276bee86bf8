from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyMetadata(_message.Message):
    __slots__ = ("name", "skill_type", "checkpoint_path", "git_repo", "git_sha", "raw_policy_config", "is_language_conditioned", "runtime_information")
    class RuntimeInformationEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SKILL_TYPE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_PATH_FIELD_NUMBER: _ClassVar[int]
    GIT_REPO_FIELD_NUMBER: _ClassVar[int]
    GIT_SHA_FIELD_NUMBER: _ClassVar[int]
    RAW_POLICY_CONFIG_FIELD_NUMBER: _ClassVar[int]
    IS_LANGUAGE_CONDITIONED_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_INFORMATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    skill_type: str
    checkpoint_path: str
    git_repo: str
    git_sha: str
    raw_policy_config: str
    is_language_conditioned: bool
    runtime_information: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., skill_type: _Optional[str] = ..., checkpoint_path: _Optional[str] = ..., git_repo: _Optional[str] = ..., git_sha: _Optional[str] = ..., raw_policy_config: _Optional[str] = ..., is_language_conditioned: bool = ..., runtime_information: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetPolicyMetadataRequest(_message.Message):
    __slots__ = ("client_identifier",)
    CLIENT_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    client_identifier: str
    def __init__(self, client_identifier: _Optional[str] = ...) -> None: ...

class GetPolicyMetadataResponse(_message.Message):
    __slots__ = ("success", "policy_metadata")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    POLICY_METADATA_FIELD_NUMBER: _ClassVar[int]
    success: bool
    policy_metadata: PolicyMetadata
    def __init__(self, success: bool = ..., policy_metadata: _Optional[_Union[PolicyMetadata, _Mapping]] = ...) -> None: ...

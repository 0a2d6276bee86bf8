from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageDtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UINT8: _ClassVar[ImageDtype]
    DTYPE_INT8: _ClassVar[ImageDtype]
    DTYPE_UINT16: _ClassVar[ImageDtype]
    DTYPE_INT16: _ClassVar[ImageDtype]

class ImageCompression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[ImageCompression]
    JPG: _ClassVar[ImageCompression]
    PNG: _ClassVar[ImageCompression]
DTYPE_UINT8: ImageDtype
DTYPE_INT8: ImageDtype
DTYPE_UINT16: ImageDtype
DTYPE_INT16: ImageDtype
NONE: ImageCompression
JPG: ImageCompression
PNG: ImageCompression

class Time(_message.Message):
    __slots__ = ("sec", "nanosec")
    SEC_FIELD_NUMBER: _ClassVar[int]
    NANOSEC_FIELD_NUMBER: _ClassVar[int]
    sec: int
    nanosec: int
    def __init__(self, sec: _Optional[int] = ..., nanosec: _Optional[int] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("height", "width", "channels", "data", "dtype", "compression")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    channels: int
    data: bytes
    dtype: ImageDtype
    compression: ImageCompression
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ..., data: _Optional[bytes] = ..., dtype: _Optional[_Union[ImageDtype, str]] = ..., compression: _Optional[_Union[ImageCompression, str]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("stamp",)
    STAMP_FIELD_NUMBER: _ClassVar[int]
    stamp: Time
    def __init__(self, stamp: _Optional[_Union[Time, _Mapping]] = ...) -> None: ...

class CameraInfo(_message.Message):
    __slots__ = ("height", "width", "distortion_model", "k", "header")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DISTORTION_MODEL_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    distortion_model: str
    k: _containers.RepeatedScalarFieldContainer[float]
    header: Header
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., distortion_model: _Optional[str] = ..., k: _Optional[_Iterable[float]] = ..., header: _Optional[_Union[Header, _Mapping]] = ...) -> None: ...

class RigidTransform(_message.Message):
    __slots__ = ("translation", "rotation")
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    translation: _containers.RepeatedScalarFieldContainer[float]
    rotation: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, translation: _Optional[_Iterable[float]] = ..., rotation: _Optional[_Iterable[float]] = ...) -> None: ...

class CameraImage(_message.Message):
    __slots__ = ("image", "info", "pose")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    POSE_FIELD_NUMBER: _ClassVar[int]
    image: Image
    info: CameraInfo
    pose: RigidTransform
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., info: _Optional[_Union[CameraInfo, _Mapping]] = ..., pose: _Optional[_Union[RigidTransform, _Mapping]] = ...) -> None: ...

class CameraImageSet(_message.Message):
    __slots__ = ("camera_serial", "has_rgb", "has_depth", "has_label", "camera_rgb", "camera_depth", "camera_label")
    CAMERA_SERIAL_FIELD_NUMBER: _ClassVar[int]
    HAS_RGB_FIELD_NUMBER: _ClassVar[int]
    HAS_DEPTH_FIELD_NUMBER: _ClassVar[int]
    HAS_LABEL_FIELD_NUMBER: _ClassVar[int]
    CAMERA_RGB_FIELD_NUMBER: _ClassVar[int]
    CAMERA_DEPTH_FIELD_NUMBER: _ClassVar[int]
    CAMERA_LABEL_FIELD_NUMBER: _ClassVar[int]
    camera_serial: str
    has_rgb: bool
    has_depth: bool
    has_label: bool
    camera_rgb: CameraImage
    camera_depth: CameraImage
    camera_label: CameraImage
    def __init__(self, camera_serial: _Optional[str] = ..., has_rgb: bool = ..., has_depth: bool = ..., has_label: bool = ..., camera_rgb: _Optional[_Union[CameraImage, _Mapping]] = ..., camera_depth: _Optional[_Union[CameraImage, _Mapping]] = ..., camera_label: _Optional[_Union[CameraImage, _Mapping]] = ...) -> None: ...

class RobotPoseStatus(_message.Message):
    __slots__ = ("robot_name", "pose", "wrench", "external_wrench", "joint_position", "joint_velocity", "joint_torque", "joint_torque_external")
    ROBOT_NAME_FIELD_NUMBER: _ClassVar[int]
    POSE_FIELD_NUMBER: _ClassVar[int]
    WRENCH_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_WRENCH_FIELD_NUMBER: _ClassVar[int]
    JOINT_POSITION_FIELD_NUMBER: _ClassVar[int]
    JOINT_VELOCITY_FIELD_NUMBER: _ClassVar[int]
    JOINT_TORQUE_FIELD_NUMBER: _ClassVar[int]
    JOINT_TORQUE_EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    robot_name: str
    pose: RigidTransform
    wrench: _containers.RepeatedScalarFieldContainer[float]
    external_wrench: _containers.RepeatedScalarFieldContainer[float]
    joint_position: _containers.RepeatedScalarFieldContainer[float]
    joint_velocity: _containers.RepeatedScalarFieldContainer[float]
    joint_torque: _containers.RepeatedScalarFieldContainer[float]
    joint_torque_external: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, robot_name: _Optional[str] = ..., pose: _Optional[_Union[RigidTransform, _Mapping]] = ..., wrench: _Optional[_Iterable[float]] = ..., external_wrench: _Optional[_Iterable[float]] = ..., joint_position: _Optional[_Iterable[float]] = ..., joint_velocity: _Optional[_Iterable[float]] = ..., joint_torque: _Optional[_Iterable[float]] = ..., joint_torque_external: _Optional[_Iterable[float]] = ...) -> None: ...

class RobotGripperStatus(_message.Message):
    __slots__ = ("gripper_name", "gripper_position")
    GRIPPER_NAME_FIELD_NUMBER: _ClassVar[int]
    GRIPPER_POSITION_FIELD_NUMBER: _ClassVar[int]
    gripper_name: str
    gripper_position: float
    def __init__(self, gripper_name: _Optional[str] = ..., gripper_position: _Optional[float] = ...) -> None: ...

class PosesAndGrippersActualAndDesired(_message.Message):
    __slots__ = ("actual", "desired", "version")
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    actual: PosesAndGrippers
    desired: PosesAndGrippers
    version: float
    def __init__(self, actual: _Optional[_Union[PosesAndGrippers, _Mapping]] = ..., desired: _Optional[_Union[PosesAndGrippers, _Mapping]] = ..., version: _Optional[float] = ...) -> None: ...

class MultiarmObservation(_message.Message):
    __slots__ = ("robot", "visuo", "version", "use_language_instruction", "language_instruction")
    ROBOT_FIELD_NUMBER: _ClassVar[int]
    VISUO_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    USE_LANGUAGE_INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    robot: PosesAndGrippersActualAndDesired
    visuo: _containers.RepeatedCompositeFieldContainer[CameraImageSet]
    version: float
    use_language_instruction: bool
    language_instruction: str
    def __init__(self, robot: _Optional[_Union[PosesAndGrippersActualAndDesired, _Mapping]] = ..., visuo: _Optional[_Iterable[_Union[CameraImageSet, _Mapping]]] = ..., version: _Optional[float] = ..., use_language_instruction: bool = ..., language_instruction: _Optional[str] = ...) -> None: ...

class PosesAndGrippers(_message.Message):
    __slots__ = ("pose_status", "gripper_status", "timestamp_data", "timestamp_sent", "timestamp_received")
    POSE_STATUS_FIELD_NUMBER: _ClassVar[int]
    GRIPPER_STATUS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_DATA_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_SENT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    pose_status: _containers.RepeatedCompositeFieldContainer[RobotPoseStatus]
    gripper_status: _containers.RepeatedCompositeFieldContainer[RobotGripperStatus]
    timestamp_data: Time
    timestamp_sent: Time
    timestamp_received: Time
    def __init__(self, pose_status: _Optional[_Iterable[_Union[RobotPoseStatus, _Mapping]]] = ..., gripper_status: _Optional[_Iterable[_Union[RobotGripperStatus, _Mapping]]] = ..., timestamp_data: _Optional[_Union[Time, _Mapping]] = ..., timestamp_sent: _Optional[_Union[Time, _Mapping]] = ..., timestamp_received: _Optional[_Union[Time, _Mapping]] = ...) -> None: ...

class PolicyStepRequest(_message.Message):
    __slots__ = ("client_identifier", "observation", "wants_chunk", "control_step")
    CLIENT_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    WANTS_CHUNK_FIELD_NUMBER: _ClassVar[int]
    CONTROL_STEP_FIELD_NUMBER: _ClassVar[int]
    client_identifier: str
    observation: MultiarmObservation
    wants_chunk: bool
    control_step: int
    def __init__(self, client_identifier: _Optional[str] = ..., observation: _Optional[_Union[MultiarmObservation, _Mapping]] = ..., wants_chunk: bool = ..., control_step: _Optional[int] = ...) -> None: ...

class ActionChunk(_message.Message):
    __slots__ = ("actions", "first_control_step", "planned_from_step", "next_plan_step", "control_rate_hz", "decoding_s", "queue_s", "inference_s")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    FIRST_CONTROL_STEP_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    NEXT_PLAN_STEP_FIELD_NUMBER: _ClassVar[int]
    CONTROL_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    DECODING_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_S_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[PosesAndGrippers]
    first_control_step: int
    planned_from_step: int
    next_plan_step: int
    control_rate_hz: float
    decoding_s: float
    queue_s: float
    inference_s: float
    def __init__(self, actions: _Optional[_Iterable[_Union[PosesAndGrippers, _Mapping]]] = ..., first_control_step: _Optional[int] = ..., planned_from_step: _Optional[int] = ..., next_plan_step: _Optional[int] = ..., control_rate_hz: _Optional[float] = ..., decoding_s: _Optional[float] = ..., queue_s: _Optional[float] = ..., inference_s: _Optional[float] = ...) -> None: ...

class PolicyStepResponse(_message.Message):
    __slots__ = ("success", "action", "chunk")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    success: bool
    action: PosesAndGrippers
    chunk: ActionChunk
    def __init__(self, success: bool = ..., action: _Optional[_Union[PosesAndGrippers, _Mapping]] = ..., chunk: _Optional[_Union[ActionChunk, _Mapping]] = ...) -> None: ...

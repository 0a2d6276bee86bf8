"""An OpenGL context without a screen, through EGL and ctypes: what `scene_renderer` draws with."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim_client.station.headless_gl import INSTALL_LINE, RenderingUnavailableError

# Of the headers of Khronos (EGL 1.5, OpenGL 3.3 core), under their names without the prefix.
_PLATFORM_SURFACELESS_MESA = 0x31DD
_OPENGL_API = 0x30A2
_CONTEXT_OPENGL_3_3_CORE = (0x3098, 3, 0x30FB, 3, 0x30FD, 1, 0x3038)
VERTEX_SHADER, FRAGMENT_SHADER, _COMPILE_STATUS, _LINK_STATUS = 0x8B31, 0x8B30, 0x8B81, 0x8B82
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, STATIC_DRAW = 0x8892, 0x8893, 0x88E4
FRAMEBUFFER, READ_FRAMEBUFFER, DRAW_FRAMEBUFFER = 0x8D40, 0x8CA8, 0x8CA9
RENDERBUFFER, _FRAMEBUFFER_COMPLETE, _COLOR_BUFFER_BIT = 0x8D41, 0x8CD5, 0x4000
COLOR_ATTACHMENT0, _DEPTH_ATTACHMENT, _DEPTH_COMPONENT32F = 0x8CE0, 0x8D00, 0x8CAC
TEXTURE_2D, _TEXTURE_MIN_FILTER, _NEAREST = 0x0DE1, 0x2801, 0x2600
COLOR, DEPTH, TRIANGLES, DEPTH_TEST, CULL_FACE, CLOCKWISE = (
    0x1800,
    0x1801,
    4,
    0x0B71,
    0x0B44,
    0x0900,
)
UNSIGNED_BYTE, SHORT, UNSIGNED_SHORT, UNSIGNED_INT, FLOAT = 0x1401, 0x1402, 0x1403, 0x1405, 0x1406
RED, RED_INTEGER, RGB, RGBA = 0x1903, 0x8D94, 0x1907, 0x1908
RGBA8, R32F, R16I = 0x8058, 0x822E, 0x8233
_PACK_ALIGNMENT = 0x0D05
_RENDERER, _VERSION = 0x1F01, 0x1F02

_SIGNATURES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "glAttachShader": (None, (c_uint, c_uint)),
    "glBindBuffer": (None, (c_uint, c_uint)),
    "glBindFramebuffer": (None, (c_uint, c_uint)),
    "glBindRenderbuffer": (None, (c_uint, c_uint)),
    "glBindTexture": (None, (c_uint, c_uint)),
    "glBindVertexArray": (None, (c_uint,)),
    "glBlitFramebuffer": (None, (*(c_int,) * 8, c_uint, c_uint)),
    "glBufferData": (None, (c_uint, c_size_t, c_void_p, c_uint)),
    "glCheckFramebufferStatus": (c_uint, (c_uint,)),
    "glClearBufferfv": (None, (c_uint, c_int, c_void_p)),
    "glClearBufferiv": (None, (c_uint, c_int, c_void_p)),
    "glCompileShader": (None, (c_uint,)),
    "glCreateProgram": (c_uint, ()),
    "glCreateShader": (c_uint, (c_uint,)),
    "glDrawArrays": (None, (c_uint, c_int, c_int)),
    "glDrawBuffers": (None, (c_int, c_void_p)),
    "glEnable": (None, (c_uint,)),
    "glEnableVertexAttribArray": (None, (c_uint,)),
    "glFramebufferRenderbuffer": (None, (c_uint, c_uint, c_uint, c_uint)),
    "glFramebufferTexture2D": (None, (c_uint, c_uint, c_uint, c_uint, c_int)),
    "glFrontFace": (None, (c_uint,)),
    "glGenBuffers": (None, (c_int, c_void_p)),
    "glGenFramebuffers": (None, (c_int, c_void_p)),
    "glGenRenderbuffers": (None, (c_int, c_void_p)),
    "glGenTextures": (None, (c_int, c_void_p)),
    "glGenVertexArrays": (None, (c_int, c_void_p)),
    "glGetError": (c_uint, ()),
    "glGetProgramiv": (None, (c_uint, c_uint, c_void_p)),
    "glGetShaderInfoLog": (None, (c_uint, c_int, c_void_p, c_char_p)),
    "glGetShaderiv": (None, (c_uint, c_uint, c_void_p)),
    "glGetString": (c_char_p, (c_uint,)),
    "glGetUniformLocation": (c_int, (c_uint, c_char_p)),
    "glLinkProgram": (None, (c_uint,)),
    "glMultiDrawElements": (None, (c_uint, c_void_p, c_uint, c_void_p, c_int)),
    "glPixelStorei": (None, (c_uint, c_int)),
    "glReadBuffer": (None, (c_uint,)),
    "glReadPixels": (None, (c_int, c_int, c_int, c_int, c_uint, c_uint, c_void_p)),
    "glRenderbufferStorage": (None, (c_uint, c_uint, c_int, c_int)),
    "glShaderSource": (None, (c_uint, c_int, c_void_p, c_void_p)),
    "glTexImage2D": (
        None,
        (c_uint, c_int, c_int, c_int, c_int, c_int, c_uint, c_uint, c_void_p),
    ),
    "glTexParameteri": (None, (c_uint, c_uint, c_int)),
    "glUniform3fv": (None, (c_int, c_int, c_void_p)),
    "glUniform4i": (None, (c_int, c_int, c_int, c_int, c_int)),
    "glUniformMatrix4fv": (None, (c_int, c_int, ctypes.c_ubyte, c_void_p)),
    "glUseProgram": (None, (c_uint,)),
    "glVertexAttribIPointer": (None, (c_uint, c_int, c_uint, c_int, c_void_p)),
    "glVertexAttribPointer": (
        None,
        (c_uint, c_int, c_uint, ctypes.c_ubyte, c_int, c_void_p),
    ),
    "glViewport": (None, (c_int, c_int, c_int, c_int)),
}


@cache
def _gl() -> ctypes.CDLL:
    library = ctypes.CDLL("libOpenGL.so.0")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _Egl(NamedTuple):
    """process_id: in which the display was opened."""

    library: ctypes.CDLL
    display: int
    process_id: int


@cache
def _egl() -> _Egl:
    """The library and a display of its own, which nobody else in the process ends.

    Drake's VTK engine renders on a device's display and ends that with its last window; Mesa's
    surfaceless display is another one.
    """
    egl = ctypes.CDLL("libEGL.so.1")
    egl.eglGetProcAddress.restype, egl.eglGetProcAddress.argtypes = c_void_p, (c_char_p,)
    egl.eglInitialize.argtypes = (c_void_p, c_void_p, c_void_p)
    egl.eglCreateContext.restype = c_void_p
    egl.eglCreateContext.argtypes = (c_void_p, c_void_p, c_void_p, POINTER(c_int))
    egl.eglMakeCurrent.argtypes = (c_void_p, c_void_p, c_void_p, c_void_p)
    egl.eglDestroyContext.argtypes = (c_void_p, c_void_p)
    egl.eglBindAPI.argtypes = (c_uint,)
    address = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    get_display = ctypes.CFUNCTYPE(c_void_p, c_uint, c_void_p, c_void_p)(address)
    display = get_display(_PLATFORM_SURFACELESS_MESA, None, None)
    if not display or not egl.eglInitialize(display, None, None):
        raise RenderingUnavailableError(
            "cannot render with 'own': Mesa has no surfaceless display here; use renderer 'vtk', "
            f"or install Mesa as root: {INSTALL_LINE}"
        )
    return _Egl(egl, display, os.getpid())


def _egl_of_this_process() -> _Egl:
    """Raises RenderingUnavailableError where another process opened the display, and forked."""
    egl = _egl()
    if egl.process_id != os.getpid():
        # Mesa's threads are not in this process, and drawing would wait for them for ever.
        raise RenderingUnavailableError(
            "cannot render with 'own' in a process forked from one that has rendered; start it by "
            "'spawn', as multiprocessing.get_context('spawn') and AsyncVectorEnv(context='spawn') "
            "do, or use renderer 'vtk'"
        )
    return egl


def is_available() -> bool:
    """Whether this process can have an OpenGL 3.3 without a screen."""
    try:
        OffscreenGl()
    except RenderingUnavailableError:
        return False
    return True


@cache
def driver_name() -> str:
    """What OpenGL's driver calls itself, such as 'llvmpipe (LLVM 15.0.6, 256 bits)'.

    Raises RenderingUnavailableError.
    """
    with OffscreenGl().current() as gl:
        # Of the version too: the same name draws otherwise in another release.
        words = [gl.glGetString(name) for name in (_RENDERER, _VERSION)]
    return ", ".join(word.decode("utf-8", "replace") for word in words if word)


class OffscreenGl:
    """One context. `with context.current() as gl:` around all that is done in it.

    It is let go of in between, so that Drake's own renderers and other threads can have theirs.
    """

    def __init__(self) -> None:
        egl, display, _ = _egl_of_this_process()
        egl.eglBindAPI(_OPENGL_API)
        attributes = (c_int * len(_CONTEXT_OPENGL_3_3_CORE))(*_CONTEXT_OPENGL_3_3_CORE)
        self._context = egl.eglCreateContext(display, None, None, attributes)
        if not self._context:
            raise RenderingUnavailableError(
                "cannot render with 'own': no OpenGL 3.3 without a screen here; use renderer 'vtk'"
            )
        weakref.finalize(self, _destroy, self._context)

    @contextmanager
    def current(self) -> Iterator[ctypes.CDLL]:
        egl, display, _ = _egl_of_this_process()
        egl.eglBindAPI(_OPENGL_API)
        if not egl.eglMakeCurrent(display, None, None, self._context):
            raise RenderingUnavailableError("the OpenGL context was lost")
        try:
            yield _gl()
        finally:
            egl.eglMakeCurrent(display, None, None, None)


def _destroy(context: int) -> None:
    egl, display, process_id = _egl()
    # A forked process leaves it to the one that made it.
    if process_id == os.getpid():
        egl.eglDestroyContext(display, context)


def pointer(array: npt.NDArray[np.generic]) -> c_void_p:
    """Where a C-contiguous array begins; it has to live as long as that is used."""
    assert array.flags.c_contiguous
    return array.ctypes.data_as(c_void_p)


def new_name(generate: str) -> int:
    """A new object of OpenGL's, such as of `glGenBuffers`."""
    name = c_uint()
    getattr(_gl(), generate)(1, ctypes.byref(name))
    return name.value


def program(vertex_source: str, fragment_source: str) -> int:
    """A linked program of two shaders. Raises RenderingUnavailableError with the driver's words."""
    gl = _gl()
    made = gl.glCreateProgram()
    status = c_int()
    for kind, source in ((VERTEX_SHADER, vertex_source), (FRAGMENT_SHADER, fragment_source)):
        shader = gl.glCreateShader(kind)
        text = c_char_p(source.encode())
        gl.glShaderSource(shader, 1, ctypes.byref(text), None)
        gl.glCompileShader(shader)
        gl.glGetShaderiv(shader, _COMPILE_STATUS, ctypes.byref(status))
        if not status.value:
            log = ctypes.create_string_buffer(2000)
            gl.glGetShaderInfoLog(shader, len(log), None, log)
            raise RenderingUnavailableError(
                f"the OpenGL driver refuses a shader: {' '.join(log.value.decode().split())}; "
                "use renderer 'vtk'"
            )
        gl.glAttachShader(made, shader)
    gl.glLinkProgram(made)
    gl.glGetProgramiv(made, _LINK_STATUS, ctypes.byref(status))
    if not status.value:
        raise RenderingUnavailableError("the OpenGL driver links no program; use renderer 'vtk'")
    return made


def texture(internal_format: int, width: int, height: int, *, layout: tuple[int, int]) -> int:
    """An empty one; layout: format and type of its pixels, as OpenGL wants even for none."""
    gl = _gl()
    name = new_name("glGenTextures")
    gl.glBindTexture(TEXTURE_2D, name)
    gl.glTexImage2D(TEXTURE_2D, 0, internal_format, width, height, 0, *layout, None)
    # Never filtered; the default would want smaller copies of it, and be incomplete without.
    gl.glTexParameteri(TEXTURE_2D, _TEXTURE_MIN_FILTER, _NEAREST)
    return name


def framebuffer(textures: list[int], *, depth_of: tuple[int, int] | None = None) -> int:
    """What draws into the textures; depth_of: width and height, where nearer hides farther."""
    gl = _gl()
    name = new_name("glGenFramebuffers")
    gl.glBindFramebuffer(FRAMEBUFFER, name)
    for i, each in enumerate(textures):
        gl.glFramebufferTexture2D(FRAMEBUFFER, COLOR_ATTACHMENT0 + i, TEXTURE_2D, each, 0)
    targets = np.array([COLOR_ATTACHMENT0 + i for i in range(len(textures))], dtype=np.uint32)
    gl.glDrawBuffers(len(targets), pointer(targets))
    if depth_of is not None:
        buffer = new_name("glGenRenderbuffers")
        gl.glBindRenderbuffer(RENDERBUFFER, buffer)
        gl.glRenderbufferStorage(RENDERBUFFER, _DEPTH_COMPONENT32F, *depth_of)
        gl.glFramebufferRenderbuffer(FRAMEBUFFER, _DEPTH_ATTACHMENT, RENDERBUFFER, buffer)
    status = gl.glCheckFramebufferStatus(FRAMEBUFFER)
    if status != _FRAMEBUFFER_COMPLETE:
        raise RenderingUnavailableError(
            f"the OpenGL driver draws no such picture (framebuffer status {status:#x}); "
            "use renderer 'vtk'"
        )
    return name


def copy_colours(source: int, target: int, width: int, height: int) -> None:
    """From the first texture of one framebuffer to another's; `target` is then the current one."""
    gl = _gl()
    gl.glBindFramebuffer(READ_FRAMEBUFFER, source)
    gl.glReadBuffer(COLOR_ATTACHMENT0)
    gl.glBindFramebuffer(DRAW_FRAMEBUFFER, target)
    whole = (0, 0, width, height)
    gl.glBlitFramebuffer(*whole, *whole, _COLOR_BUFFER_BIT, _NEAREST)
    gl.glBindFramebuffer(FRAMEBUFFER, target)


def require_no_error() -> None:
    """Raises RenderingUnavailableError where OpenGL refused something since the last look."""
    error = _gl().glGetError()
    if error:
        raise RenderingUnavailableError(f"OpenGL error {error:#x}; use renderer 'vtk'")


def float_array(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


def pack_tightly() -> None:
    """Read rows of pixels without gaps between them."""
    _gl().glPixelStorei(_PACK_ALIGNMENT, 1)

"""Whether this machine can render without a screen, found out before Drake tries.

Drake's VTK engine renders through EGL. Where a library is missing it raises, but where only the
driver is missing it ends the process with a segmentation fault; so EGL is asked here first, with
ctypes, in the way that VTK will ask it.
"""

from __future__ import annotations

import ctypes
from functools import cache

PACKAGES = "libegl1 libgl1-mesa-dri libopengl0 libglx0 libx11-6 libxrender1 libglib2.0-0"
INSTALL_LINE = f"apt-get install -y --no-install-recommends {PACKAGES}"

_LIBRARIES = (
    "libglib-2.0.so.0",
    "libX11.so.6",
    "libXrender.so.1",
    "libGLX.so.0",
    "libOpenGL.so.0",
    "libEGL.so.1",
)
# Not worth more than a few: a machine with a graphics card lists that and Mesa's software device.
_MAX_DEVICES = 16
_EGL_PLATFORM_DEVICE_EXT = 0x313F


class RenderingUnavailableError(RuntimeError):
    """This machine lacks what off-screen rendering needs; the text is one line, with the cure."""


def require_rendering() -> None:
    """Raises RenderingUnavailableError where cameras can't be rendered."""
    obstacle = _obstacle()
    if obstacle is not None:
        raise RenderingUnavailableError(
            f"cannot render cameras: {obstacle}; install the libraries as root: {INSTALL_LINE}"
        )


@cache
def _obstacle() -> str | None:
    loaded = {}
    for name in _LIBRARIES:
        try:
            loaded[name] = ctypes.CDLL(name)
        except OSError:
            return f"{name} is missing"
    if not _some_device_works(loaded["libEGL.so.1"]):
        return "no EGL device works (is Mesa's driver missing?)"
    return None


def _some_device_works(egl: ctypes.CDLL) -> bool:
    get_function = egl.eglGetProcAddress
    get_function.restype = ctypes.c_void_p
    get_function.argtypes = [ctypes.c_char_p]
    query_address = get_function(b"eglQueryDevicesEXT")
    display_address = get_function(b"eglGetPlatformDisplayEXT")
    if not query_address or not display_address:
        return False
    handle = ctypes.c_void_p
    query_devices = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.POINTER(handle), ctypes.POINTER(ctypes.c_int)
    )(query_address)
    get_display = ctypes.CFUNCTYPE(handle, ctypes.c_uint, handle, handle)(display_address)
    egl.eglInitialize.restype = ctypes.c_uint
    egl.eglInitialize.argtypes = [handle, handle, handle]
    egl.eglTerminate.argtypes = [handle]

    devices = (handle * _MAX_DEVICES)()
    count = ctypes.c_int(0)
    if not query_devices(_MAX_DEVICES, devices, ctypes.byref(count)):
        return False
    for device in devices[: count.value]:
        display = get_display(_EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and egl.eglInitialize(display, None, None):
            egl.eglTerminate(display)
            return True
    return False

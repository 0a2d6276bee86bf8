#!/bin/sh
# install_locked.sh LOCK: install /locks/LOCK.txt into /opt/assay, and leave out what no service uses.
set -eu

lock=$1
export PATH=/opt/build/bin:$PATH
pip --python /opt/assay/bin/python3 install --no-compile --no-deps --only-binary :all: \
    --require-hashes --requirement "/locks/$lock.txt"

if [ "$lock" = sim ]; then
    # Drake asks for it, to draw plots of its own (pydrake.all, pydrake.visualization) that no task
    # draws.
    pip --python /opt/assay/bin/python3 uninstall --yes \
        matplotlib contourpy cycler fonttools kiwisolver python-dateutil
fi

cd /opt/assay/lib/python3*/site-packages
# Tests, stubs for type checkers, headers. NumPy's testing imports one file of its tests.
find . -path ./numpy/_core/tests -prune -o -type d \( -name tests -o -name test \) -prune \
    -exec rm -rf {} +
find . -path './numpy/_core/tests/*' ! -name _natype.py ! -name __init__.py -delete
find . -name '*.pyi' -delete
rm -rf torch/include torch/bin/*[Tt]est* torch/bin/protoc* mosek/fusion pydrake/doc
# Byte code of what is imported, and not of the hundreds of megabytes that never are.
case $lock in
    torch) modules=torch ;;
    serve) modules="torch grpc grpc_health.v1.health grpc_reflection.v1alpha.reflection numpy PIL.Image
        prometheus_client safetensors.torch simplejpeg tokenizers tyro uvloop" ;;
    train) modules="torch numpy safetensors.torch tokenizers tyro av h5py PIL.Image simplejpeg" ;;
    sim) modules="av cv2 grpc gymnasium numpy scipy.stats scipy.optimize tqdm tyro pydrake.common.value
        pydrake.geometry pydrake.math pydrake.multibody.parsing pydrake.multibody.plant
        pydrake.multibody.tree pydrake.systems.analysis pydrake.systems.framework
        pydrake.systems.sensors" ;;
    analysis) modules="numpy PIL.Image scipy.stats scipy.optimize scipy.integrate
        starlette.applications tyro uvicorn yaml" ;;
    ray-node) modules="ray ray.dashboard.agent ray.dashboard.head ray.job_submission
        ray.scripts.scripts" ;;
    *) echo "install_locked.sh: no list of modules for $lock" >&2 && exit 2 ;;
esac
# shellcheck disable=SC2086
/opt/assay/bin/python3 /opt/build/bin/compile_imported.py $modules

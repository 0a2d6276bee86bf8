#!/bin/sh
# install_wheels.sh FOLDER VENV: make an environment of LBM Eval's wheels in FOLDER.
set -eu

folder=$1
venv=$2
refuse() {
    echo "LBM Eval's wheels: $1: expected robot_gym, lbm_eval, lbm_eval_models and" \
        "lbm_eval_scenarios as .whl files in LBM_EVAL_WHEELS (./lbm-eval-wheels)" >&2
    exit 2
}

[ -d "$folder" ] || refuse "no such folder"
[ -r "$folder" ] && [ -x "$folder" ] || refuse "the folder can't be read"
for name in robot_gym lbm_eval lbm_eval_models lbm_eval_scenarios; do
    set -- "$folder/$name"-*.whl
    [ -e "$1" ] || refuse "no $name-*.whl"
    [ -r "$1" ] || refuse "$(basename "$1") can't be read"
done
python3 -m venv --without-pip "$venv"
/opt/build/bin/pip --python "$venv/bin/python3" install "$folder"/*.whl

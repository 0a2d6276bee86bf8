#!/bin/bash
# Train RECIPE on the demonstrations in /runs, and say where the checkpoint is.
set -eu

# The shell would die of Ctrl-C, or as a container's first process hear nothing of it, before the
# training has saved. From its fork on "$!" is the training, one line before "$training" is; and bash,
# unlike sh, loses no signal to a process that it has just forked.
num_told=0
stop() {
    num_told=$((num_told + 1))
    [ -n "${!:-}" ] || exit 143
    kill -TERM "$!" || true
}
trap stop TERM INT
# TRAIN_ARGUMENTS is a list of words, such as "--num-steps 500".
# shellcheck disable=SC2086
trainer train "$RECIPE" --data /runs/containers/demonstrations \
    --output /runs/containers/training ${TRAIN_ARGUMENTS:-} &
training=$!
# A trapped signal ends a wait at once, with a status of its own. The training's is waited for all
# the same, and bash still tells it when the training has ended meanwhile.
num_told_before=
until [ "$num_told" = "$num_told_before" ]; do
    num_told_before=$num_told
    status=0
    wait "$training" || status=$?
done
[ "$status" = 0 ] || exit "$status"
echo "checkpoint: runs/containers/training/checkpoints/final"
echo "evaluate it: CHECKPOINT=runs/containers/training/checkpoints/final docker compose up"

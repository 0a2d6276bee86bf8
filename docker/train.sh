#!/bin/bash
# Train RECIPE on the demonstrations in /runs, and say where the checkpoint is.
set -eu

# The shell would die of Ctrl-C, or as a container's first process hear nothing of it, before the
# training has saved. From its fork on "$!" is the training, one line before "$training" is; and bash,
# unlike sh, loses no signal to a process that it has just forked.
trap '[ -n "${!:-}" ] || exit 143; kill -TERM "$!"' TERM INT
# TRAIN_ARGUMENTS is a list of words, such as "--num-steps 500".
# shellcheck disable=SC2086
trainer train "$RECIPE" --data /runs/containers/demonstrations \
    --output /runs/containers/training ${TRAIN_ARGUMENTS:-} &
training=$!
status=0
wait "$training" || status=$?
# A trapped signal ends a wait at once; the training's own end is waited for all the same.
while kill -0 "$training" 2>/dev/null; do
    status=0
    wait "$training" || status=$?
done
[ "$status" = 0 ] || exit "$status"
echo "checkpoint: runs/containers/training/checkpoints/final"
echo "evaluate it: CHECKPOINT=runs/containers/training/checkpoints/final docker compose up"

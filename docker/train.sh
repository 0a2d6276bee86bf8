#!/bin/sh
# Train RECIPE on the demonstrations in /runs, and say where the checkpoint is.
set -eu

# TRAIN_ARGUMENTS is a list of words, such as "--steps 500".
# shellcheck disable=SC2086
trainer train "$RECIPE" --data /runs/containers/demonstrations \
    --output /runs/containers/training ${TRAIN_ARGUMENTS:-}
echo "checkpoint: runs/containers/training/checkpoints/final"
echo "evaluate it: CHECKPOINT=runs/containers/training/checkpoints/final docker compose up"

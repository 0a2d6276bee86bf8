#!/bin/sh
# Record the scripted expert's demonstrations of TASK, NUM_DEMONSTRATIONS of them, in /runs.
set -eu

exec sim-client demos --task "$TASK" --num "$NUM_DEMONSTRATIONS" --workers "$WORKERS" \
    --cameras "$CAMERAS" --output /runs/containers/demonstrations

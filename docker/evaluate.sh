#!/bin/bash
# Evaluate the served policy, and leave the exit status where the report's writer finds it.
set -u

# The server stops when nobody holds this open any more. Opened for both directions: a server
# that is gone must not make us wait for a reader.
exec 3<>/run/assay/simulators
status_file=/run/assay/evaluation-exit-status
rm -f "$status_file"

sim-client evaluate --tasks "$TASKS" --episodes "$EPISODES" --workers "$WORKERS" \
    --address "$ADDRESS" --output /results &
evaluation=$!
trap 'kill -TERM "$evaluation"' TERM INT
# A trapped signal ends the first wait at once; the second one is for the evaluation itself.
wait "$evaluation"
wait "$evaluation"
status=$?
echo "$status" >"$status_file"
exit "$status"

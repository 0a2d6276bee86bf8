#!/bin/bash
# Evaluate the served policy, with whatever other simulators work on the same results, and leave the
# exit status where the report's writer finds it.
#
# SIMULATOR_ARGUMENTS: further words for sim-client, if it is set.
set -u

# The server stops when nobody holds this open any more. Opened for both directions: a server
# that is gone must not make us wait for a reader.
exec 3<>/run/assay/simulators
# Anyone may be the user here, the next time another one.
(umask 0 && mkdir -p /run/assay/exit-statuses && touch /run/assay/running)
# The report waits until nobody holds this any more: Compose starts it when the first of several
# simulators has ended.
exec 4>>/run/assay/running
flock --shared 4
# A container's host name is its own.
status_file=/run/assay/exit-statuses/$HOSTNAME
rm -f "$status_file"

# shellcheck disable=SC2086
sim-client evaluate --tasks "$TASKS" --episodes "$EPISODES" --workers "$WORKERS" \
    --address "$ADDRESS" --output /results ${SIMULATOR_ARGUMENTS:-} &
evaluation=$!
trap 'kill -TERM "$evaluation"' TERM INT
# A trapped signal ends the first wait at once; the second one is for the evaluation itself.
wait "$evaluation"
wait "$evaluation"
status=$?
echo "$status" >"$status_file"
exit "$status"

#!/bin/bash
# Evaluate the served policy, with whatever other simulators work on the same results, and leave the
# exit status where the report's writer finds it.
#
# SIMULATOR_ARGUMENTS: further words for sim-client, if it is set.
# SIGNALS: the folder in which the services tell each other that a part has ended.
set -u

signals=${SIGNALS:-/run/assay}
# The server stops when nobody holds this open any more. Opened for both directions: a server
# that is gone must not make us wait for a reader.
exec 3<>"$signals/simulators"
# Anyone may be the user here, the next time another one.
(umask 0 && mkdir -p "$signals/exit-statuses" && touch "$signals/running" "$signals/serving")
# The report waits until nobody holds this any more: Compose starts it when the first of several
# simulators has ended.
exec 4>>"$signals/running"
flock --shared 4
# A container's host name is its own.
status_file=$signals/exit-statuses/$HOSTNAME
rm -f "$status_file"

num_told=0
server_has_ended=
evaluation=
# A signal may come before the evaluation has begun, and from its fork on "$!" is the evaluation,
# one line before "$evaluation" is.
stop() {
    num_told=$((num_told + 1))
    if [ -z "${evaluation:=${!:-}}" ]; then
        echo 143 >"$status_file"
        exit 143
    fi
    kill -TERM "$evaluation"
}
trap stop TERM INT
# shellcheck disable=SC2086
sim-client evaluate --tasks "$TASKS" --episodes "$EPISODES" --workers "$WORKERS" \
    --address "$ADDRESS" --output /results ${SIMULATOR_ARGUMENTS:-} &
evaluation=$!
trap 'server_has_ended=yes; stop' USR1
# The server holds this lock for as long as it lives. Nobody starts it again, and whoever asks its
# address waits: the machine that had it is gone, and refuses nothing. An evaluation that has seen
# its last verdict needs no server, and has a second to say so.
flock --shared "$signals/serving" sh -c "sleep 1; kill -USR1 $$" 3>&- 4>&- &
watch=$!
# A trapped signal ends a wait at once, and the evaluation's own end is waited for all the same.
num_told_before=
until [ "$num_told" = "$num_told_before" ]; do
    num_told_before=$num_told
    wait "$evaluation"
    status=$?
done
trap '' USR1
kill "$watch" 2>/dev/null
if [ -n "$server_has_ended" ] && { [ "$status" = 130 ] || [ "$status" = 143 ]; }; then
    echo "the policy server has ended before the evaluation" >&2
    # What is there can be reported, as after errors.
    status=1
fi
echo "$status" >"$status_file"
exit "$status"

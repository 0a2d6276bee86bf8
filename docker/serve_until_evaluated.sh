#!/bin/sh
# Serve a checkpoint until the last simulator has ended.
#
# CHECKPOINT: what the user asked for, mounted at /mounted. If empty, the project's folder is
# mounted there, and the first of its checkpoints is served.
# ADDRESS: HOST:PORT to bind. THREADS: of the policy's forward pass.
# METRICS_ADDRESS, DEVICE: of the options of the same names, if they are set.
# SIGNALS: the folder in which the services tell each other that a part has ended.
set -eu

signals=${SIGNALS:-/run/assay}
if [ -n "${CHECKPOINT:-}" ]; then
    name=$CHECKPOINT
    path=/mounted
else
    name=
    for candidate in checkpoint runs/demo/checkpoint docker/all-tasks-checkpoint; do
        if [ -L "/mounted/$candidate" ] && [ ! -e "/mounted/$candidate" ]; then
            echo "./$candidate is a link that leads nowhere in the container: name the folder that it" \
                "leads to as CHECKPOINT=..." >&2
            exit 2
        fi
        if [ -e "/mounted/$candidate" ]; then
            name=./$candidate
            path=/mounted/$candidate
            break
        fi
    done
    if [ -z "$name" ]; then
        echo "no checkpoint to serve: expected one at ./checkpoint, ./runs/demo/checkpoint or" \
            "./docker/all-tasks-checkpoint, or its path as CHECKPOINT=..." >&2
        exit 2
    fi
fi
echo "serving the checkpoint $name"
# What an evaluation that was cut off has left there would be taken for this one's.
rm -f "$signals"/exit-statuses/*

# Every simulator holds this pipe open for as long as it lives, so its end of file means that the
# last one has ended, be it done, failed or killed.
simulators=$signals/simulators
[ -p "$simulators" ] || mkfifo -m 666 "$simulators"
server=$$
{
    cat "$simulators"
    kill -TERM "$server"
} &
# The other way round: the lock is the server's until it ends, however it does, and every simulator
# waits for it.
(umask 0 && touch "$signals/serving")
exec 5<"$signals/serving"
if ! flock --timeout 20 5; then
    echo "another policy server of this project runs already: an evaluation at a time; those of the" \
        "profiles gpu and lbm-eval are begun by name, as \`docker compose up gpu\`" >&2
    exit 2
fi
exec policy-server serve "$path" --address "$ADDRESS" --num-threads "$THREADS" \
    ${METRICS_ADDRESS:+--metrics-address "$METRICS_ADDRESS"} ${DEVICE:+--device "$DEVICE"}

#!/bin/sh
# run_as_owner.sh [--adopt-like FILE] FOLDER COMMAND...
#
# Run COMMAND as the user who owns FOLDER and without any capability, so that what it writes into a
# mounted folder belongs to the user of the host whose folder it is.
# --adopt-like FILE: a FOLDER that Docker has just made, because it was missing on the host, is
# root's and empty; it is given to the owner of FILE first.
# A container started with `docker run --user` is somebody already: COMMAND runs as just that.
set -eu

like=
if [ "$1" = --adopt-like ]; then
    like=$2
    shift 2
fi
folder=$1
shift

[ "$(id -u)" = 0 ] || exec "$@"

if [ -n "$like" ] && [ "$(stat -c %u "$folder")" = 0 ] && [ -z "$(ls -A "$folder")" ]; then
    chown "$(stat -c %u:%g "$like")" "$folder"
fi
exec setpriv --reuid="$(stat -c %u "$folder")" --regid="$(stat -c %g "$folder")" \
    --clear-groups --inh-caps=-all --bounding-set=-all -- "$@"

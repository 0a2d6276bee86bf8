#!/bin/sh
# Write the report of what is in /results, and fail unless the evaluation is complete.
#
# One simulator that ends with 0 has seen every episode have its verdict, whatever became of others.
set -eu

# Every simulator holds it for as long as it lives.
(umask 0 && touch /run/assay/running)
exec 4>>/run/assay/running
flock 4
# The server ends after the last of them. `up` ends with us if we fail, and another one right after
# it would take a server that is about to end for one that runs.
(umask 0 && touch /run/assay/serving)
flock --timeout 30 /run/assay/serving true || true

best=killed
for file in /run/assay/exit-statuses/*; do
    status=$(cat "$file" 2>/dev/null) || continue
    # Read once: of the next `up`, that may have fewer simulators, it says nothing.
    rm -f "$file"
    case $best,$status in
        killed,* | *,0) best=$status ;;
        0,* | 1,*) ;;
        *,1) best=1 ;;
    esac
done
case $best in
    # All done; or some episodes ended in errors, which the report shows.
    0 | 1 | killed) step-analysis report /results --output /results/report ;;
    # Refused or interrupted, and said so itself.
    *) exit "$best" ;;
esac
if [ "$best" != 0 ]; then
    echo "the evaluation is not complete (sim-client: $best), and the report says so;" \
        "\`docker compose up\` again goes on with the episodes that have no verdict" >&2
    exit 1
fi

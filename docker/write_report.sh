#!/bin/sh
# Write the report of what is in /results, and fail unless the evaluation is complete.
set -eu

status=$(cat /run/assay/evaluation-exit-status 2>/dev/null || echo killed)
case $status in
    # All done; or some episodes ended in errors, which the report shows.
    0 | 1 | killed) step-analysis report /results --output /results/report ;;
    # Refused or interrupted, and said so itself.
    *) exit "$status" ;;
esac
if [ "$status" != 0 ]; then
    echo "the evaluation is not complete (sim-client: $status), and the report says so;" \
        "\`docker compose up\` again goes on with the episodes that have no verdict" >&2
    exit 1
fi

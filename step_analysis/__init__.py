"""What the rollouts of robot policies prove: records, intervals, sequential tests, reports."""

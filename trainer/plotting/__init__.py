"""Pictures of trainings: curves of runs, and what policies plan beside what a teacher did."""

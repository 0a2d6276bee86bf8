"""LBM Eval, as the user installed it, behind `sim-client evaluate --simulator lbm-eval`."""

"""Readers and writers, one module a format, each behind `trainer.data.episode`."""

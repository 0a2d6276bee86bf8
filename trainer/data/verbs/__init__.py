"""The verbs of `trainer data`, one module each: `main(arguments)`, DataError for the user."""

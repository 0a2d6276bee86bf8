"""The figures of a report, each laid out for a given width."""

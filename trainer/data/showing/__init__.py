"""Pictures of data: contact sheets, films, recordings."""

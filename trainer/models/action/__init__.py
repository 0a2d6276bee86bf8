"""Action chunks from what a backbone saw: networks, and the objectives that train them."""

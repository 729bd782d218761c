"""Other tools, asked for what they compute of the nets that come from them."""

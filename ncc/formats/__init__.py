"""Files of users, in and out: nets, samples, parameters."""

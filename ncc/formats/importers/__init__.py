"""Files and objects of other tools as graphs: a file a format, found by `registry`."""

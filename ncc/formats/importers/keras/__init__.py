"""Models of Keras, as files: their structure, their weights, what each layer is in neurons."""

"""The accuracy of a configuration, cached, and the compression problem."""

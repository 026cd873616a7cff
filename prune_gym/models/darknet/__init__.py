"""Detectors in Darknet's form: the network, its cfg and its weights file."""

"""Read, build and write detectors in Darknet's form: cfg, network and weights file."""

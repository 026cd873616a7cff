"""Times and memory of networks on this machine, and latency tables made from them."""

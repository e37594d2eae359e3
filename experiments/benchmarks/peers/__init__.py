"""One module for each way to train; each written as its own documentation advises. See `workloads.Contestant`."""

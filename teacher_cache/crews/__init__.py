"""A build by several workers: processes of this machine, or actors of a Ray cluster, with one plan and one budget."""

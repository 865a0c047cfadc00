"""The tests mirror the packages. They run offline, on the CPU."""

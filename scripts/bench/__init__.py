"""What benchmark.py and ablate.py measure, each thing in a process of its own."""

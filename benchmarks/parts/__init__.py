"""What several benchmarks share: servers, teachers, clients, loops, peers, the table of all of them."""

"""What `npipe bench` measures: round trips and throughput of pipes and of what else there is on this machine."""

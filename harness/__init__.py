"""The swarm runner: experts in, a better expert out."""

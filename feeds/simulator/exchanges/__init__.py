"""Simulated exchanges with generated order flow, found by their ids: each module has its exchange as `SIMULATOR`."""

"""Handlers at the end of a chain that write events somewhere; one file each."""

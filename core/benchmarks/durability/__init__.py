"""Kills, full disks, flipped bytes: what a bank lives through, counted."""

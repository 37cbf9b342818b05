"""Devices and processes: where things lie, who is there, who has gone."""

"""Engines: functions in which the net is data, an argument like x."""

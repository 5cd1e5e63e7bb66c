"""Campaigns: several arms with several seeds as processes that can be resumed, and what they say.

arms.py          from a command line to the runs of a campaign
grid.py          the points of a grid as arms, and their ranking
runs.py          one run: its folder, its lock, its process
pool.py          several runs at a time;  display.py  their progress on the terminal
comparison.py    means, spreads and paired differences over the seeds
provenance.py    the commit, command and machine that figures come from
command_line.py  what the commands share;  text.py  tables as text
"""

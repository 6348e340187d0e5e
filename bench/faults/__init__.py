"""A campaign of faults: a live demo meets kills, stalls, damaged objects and hostile input, and the accounts are kept.

    python -m bench.faults [--only NAME,...] [--state FOLDER] [--json FILE] [--list]

It starts a demo of its own and prints one line for each fault: the moment, whether and how fast the system healed, what
was lost, and the message that an operator gets. Each wait polls a state and has a limit; seconds are printed, and none
of them is judged. At the end, rows are accounted by identity (instance and time): each row sent is labelled or
quarantined, and the compacted table has each labelled row once. Each message that was sent for an episode has arrived
in the alert queue. The exit code is 1 if a row, an object or a message is lost, if more messages came twice than there
were crashes, or if a person was needed for anything but an object without content. Faults that the run does not cover
are listed with the reason.
"""

"""The guardian: the process that makes the children of a worker's slots, and ends what they leave.

It is the parent of all of them. A child is forked from it, with everything imported that a child needs and
nothing of any run, so a fresh one is there within milliseconds. It is in a session of its own and out of
reach of what ends the worker; once the worker is gone, it ends all children and goes too.

Whatever a child started becomes the guardian's when that child dies (PR_SET_CHILD_SUBREAPER of prctl(2)),
also what is in a session of its own, and is killed. Only then the worker is told of the child's end.
"""

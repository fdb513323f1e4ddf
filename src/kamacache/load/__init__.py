"""The way of a get whose value is not in this process's memory.

Read downward, as the request goes:

miss      one key or a batch: wait for own writes that are pending, then
peek      ask the memory of the key's owner; if it has nothing,
window    with batch_window, gather the keys of tasks; then
flight    join the load of the key that is under way, or lead one:
remote    the leader asks the owner to load, then the next candidate; if that is this node,
local     this node looks for a former copy, runs the loader, and keeps the value unless a newer write is known
lease     or, for a function of the caller's own, the owner lets this node load: one asker at a time (grant.py)
turns     functions that wait for a lease, and for which plain gets wait
call      the call of the loader itself, on this thread, on a thread of the pool, or on the home loop
outcome   the end of a load, for callers, counters and asking peers
"""

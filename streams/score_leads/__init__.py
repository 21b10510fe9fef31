"""Stage 2, from the bottom up: `lead_state` and `lead_rules` are stored state; `lead_stage` runs the lifecycle; `overrides` has
what somebody set by hand, and `contact_clock` the time from qualified to the first contact; `timers` says when time matters
next; `scores` and `session_scores` emit statements; `clock` brings a lead to a moment; `identities` folds the records of a
lead's identities; `stage` is what the engine calls. `recalculation` compares a stored lead with what it should be.
"""

"""From a suggestion to a change that helped. What happens here, in order:

propose    suggestions of confirmed findings (or a person's wish, an undo, an abort) become proposals
draft      ... looked at from all sides: dry run, objections, capacity, the guard's facts
diff       what a change changes, in lines
capacity   what it means for serving capacity, in words
review     the contract: all of it in a dialog, whose submit button is the approval
approve    the submission: everything is checked again, then approved or refused, in one transaction
policy     who may approve: role, risk, freeze, two people, break-glass
guard      the arithmetic that no approval overrides: one at a time, never below the minimum, not too often
due        the leader's loop: begins what is approved, hands over aborts, expires (expiry), buries the dead
execute    the workflow: begin, act once, follow until it is in place, watch the signal, end
outside    ... its steps: what it asks of the cluster, and does to it
moves      ... its transactions: state, audit entry and card together
outcome    did it help? the signal before against after, under comparable traffic

proposal   the words: proposal, approval, states and their legal moves, what the store must offer
checks     what each of them asks of the rows
world      what all of this is given to work with
"""

"""One file = one change, only ever after an approval. The word in a runbook's `action:` is the file's name.

An action module has

    RISK: Risk
    class Params(BaseModel)                                    absolute: what will be, not by how much
    class Words(BaseModel)                                     what a runbook's `with:`, or a person, may say
    def relative(with_, aim, sources) -> Params                a suggestion's words made absolute (`add: 1` -> 3 -> 4);
                                                               raises ValueError in words when it cannot
    def describe(params) -> str                                "Scale chat-70b from 3 to 4 replicas. Undo: ..."
    def button(params) -> str                                  "scale 3 -> 4": short, for the card
    def preview(params, sources, controls) -> Preview          server-side dry run -> diff, and `before`; raises
                                                               ConflictError if what it starts from is there no more
    def objections(params, sources) -> tuple[str, ...]         reasons against it now; any refuses
    def execute(params, before, sources, controls) -> None     idempotent, resumable: it looks first
    def took_effect(params, sources) -> Effect                 has the world changed as asked?
    def undo(params, before) -> Params | None                  the way back, as params of the same action
    def capacity_change(params, sources) -> CapacityChange     replicas lost while it runs, added, replaced: of
                                                               `params.ref`, or of several workloads by their ref
    def by_hand(params) -> str                                 the command that does the same

and where it needs them

    UNDO: str                                                  the way back is another action: `undo` gives its params
    def advance(params, before, sources, controls) -> Effect   execute only begins it (a drain): called in took_effect's
                                                               place, again and again until YES, NO or the deadline.
                                                               One short step, idempotent: a crash repeats it

A change of a node has the fields `node` and `schedulable` in its Params: the guard takes one GPU node out at a time,
and lets every one back in.
What several actions need stands beside them: `contract` (values), `finder` (name -> module, and the way back),
`owners` (who else decides about a workload or a node), `nodes` (parameters of a node's change), `tenants` (who runs on
a node), `drainable` (what speaks against emptying it), `rolling` (a rolling update's arithmetic).
"""

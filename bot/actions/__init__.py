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
    def capacity_change(params, sources) -> CapacityChange     replicas lost while it runs, added, replaced
    def by_hand(params) -> str                                 the command that does the same

A change of a node has the field `node` in its Params: the guard takes one GPU node out at a time.
What several actions need stands beside them: `contract` (values), `finder` (name -> module), `owners` (who else
decides about a workload).
"""

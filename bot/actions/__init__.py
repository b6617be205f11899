"""One file = one change, only ever after an approval. The word in a runbook's `action:` is the file's name.

An action module has

    RISK: Risk
    class Params(BaseModel)                                    absolute: what will be, not by how much
    def relative(with_, target, sources) -> Params             a suggestion's words made absolute (`add: 1` -> 3 -> 4);
                                                               raises ValueError in words when it cannot
    def describe(params) -> str                                "Scale chat-70b from 3 to 4 replicas. Undo: ..."
    def button(params) -> str                                  "scale 3 -> 4": short, for the card
    def preview(params, controls) -> Preview                   server-side dry run -> diff, and `before` for undo
    def objections(params, sources) -> tuple[str, ...]         reasons against it now; any refuses
    def execute(params, before, controls) -> None              idempotent, resumable
    def took_effect(params, sources) -> Effect                 has the world changed as asked?
    def undo(params, before) -> Params | None                  the way back, as params of the same action
    def capacity_change(params, sources) -> int                ready replicas lost (-) while it runs, for the guard
    def by_hand(params) -> str                                 the command that does the same
"""

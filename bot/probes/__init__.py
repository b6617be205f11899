"""One file = one read-only question. The word in a runbook's `probe:` is the file's name.

A probe module has

    class Params(BaseModel)           what the runbook may say under `with:` (extra="forbid")
    class Reading                     a frozen dataclass, units in field names; None = not known
    def observe(params: Params, sources: Sources) -> Reading

and raises SourceError when it could not look. It never gets `Controls`, and knows no threshold: rules judge.
"""

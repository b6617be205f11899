"""One file = one read-only question. The word in a runbook's `probe:` is the file's name.

A probe module has

    a docstring                       whose first line is the question, for the thread
    class Params(BaseModel)           what the runbook may say under `with:` (extra="forbid")
    class Reading                     a flat frozen dataclass, units in field names; None = not known
    def observe(params: Params, sources: Sources) -> Reading

and raises SourceError when it could not look. It never gets `Controls`, and knows no threshold: rules judge.

Fields with a meaning of their own: `missing` (why something is None, in words), `log_excerpt` (lines for the thread);
`x_low_seconds` and `x_high_seconds` are a bucket's edges, which runbooks write together as `${step.x_seconds}`.

What several probes need stands beside them: `asking` (side by side, silence is no answer), `served` (the pods and
series of a service), `rollouts`, `finder` (name -> module).
"""

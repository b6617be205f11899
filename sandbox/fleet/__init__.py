"""A fleet of simulated vLLM replicas, one for each live pod of a real Kubernetes API server.

Modelled. A replica listens on its pod's own address once the pod was Ready, with the arguments, image and node that the
API server tells; it ends with the pod, and starts from zero with a restarted container. Its engine plays vLLM V1's
scheduler step by step: token budget, max_num_seqs, chunked prefill, KV blocks, first come first served, preemption by
recomputation, queue limits. A step takes the longer of the host's time (fixed) and the GPU's (weights, sequences,
prompt tokens, context read), so batching is nearly free until the GPU is the slower part; GPU utilisation is the GPU's
share of the time. Clients of a service are open-loop (Poisson, seeded), go to the ready replica with the fewest
requests outstanding, stay there, and give up after a timeout. A pod that is deleted loses its requests at once, as
vLLM's default `--shutdown-timeout 0` does, and nobody retries them. Real HTTP completions go through the same queues.

Not modelled. Tokens' meaning: answers are made-up words. The prefix cache's content: a kind of request has a share of
its prompt cached, always. Speculative decoding, LoRA, multi-modal inputs, KV transfer, several engines in one pod
(data parallelism). Start-up and crashes: nothing is written to the API server, so a replica whose arguments vLLM would
refuse never listens, while kwok may still call its pod Ready. GPU temperature, power and tensor activity follow
utilisation by simple curves; PCIe and NVLink traffic are not exported. Hangs leave the GPU idle.

In order: `arguments` (pod -> options), `capacity` (options -> limits and pace), `engine` (the queue), `replica` (one
pod's server), `traffic` (who gets which request), `simulation` (all of it against one clock), `pods` and `watch` (from
the API server), `exposition` and `gpus` (what Prometheus sees), `replica_server` and `control_server` (HTTP), `control`
(the client for tests and the demo). `contract` is what may be told to it. It knows no threshold and no verdict.
"""

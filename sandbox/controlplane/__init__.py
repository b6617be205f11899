"""A real Kubernetes control plane on loopback.

`build.py` compiles the programs once, `control_plane.py` runs them with the certificates of `certificates.py`,
`cluster.py` puts nodes and a vLLM deployment into it. kwok plays the kubelets, after the rules in `stages/`.
"""

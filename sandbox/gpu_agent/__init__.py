"""A GPU node's agent, as the DaemonSet would run it: the bot's own `bot.agent.Agent`, at its pod's address.

What a node has and this machine lacks is played around it (`__main__`): NVML as an H100 answered it (`nvml`), the
kernel's log, the kubelet's word on whose the GPUs are (`kubelet`). `part` starts it, and makes Xids happen.
"""

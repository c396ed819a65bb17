"""The invented organisation behind `sample_logs/organization`: who is who, and what each log says about it.

`cast` holds the facts, once: accounts, people, hosts, addresses, the timeline of the intrusion.
Every other module tells the same story in one kind of log: `cloudtrail`, `vpc_flow`.
A further kind of log is one more module that reads `cast` and gives `Delivered` objects.
"""

"""What runs inside a worker process: services loaded side by side, their bindings, and the calls between them.

Nothing here knows of ledgers, ports or other processes. What to run comes in as an `Assembly`.
"""

"""Delivery: what is due becomes stored, in processes of their own.

The service's process never imports MLflow. When something is due, a *nursery* process is born, which imports MLflow
once and forks workers; when there is nothing left to send, all of them go and their memory with them. A worker has
one job at a time and no threads of ours: one that hangs can be killed without harm to the others.

``messages`` is what they say to each other, ``nursery`` forks, ``worker`` does a job, ``pool`` is the service's end
of it, ``dispatch`` hands out and takes back, ``receipts`` writes down, ``backoff`` decides when to try again.
"""

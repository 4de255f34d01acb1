#!/bin/bash
# TaskProlog= of slurm.conf: what it prints as 'export …' is in the environment of the task, which writes its files there.
echo "export ARTIFACTD_DROP=${ARTIFACTD_DROP_ROOT:-/data/drop}/$SLURM_JOB_USER/job-$SLURM_JOB_ID"

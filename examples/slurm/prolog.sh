#!/bin/bash
# Prolog= of slurm.conf: makes the job's run folder, USER/job-ID below the drop folder. Runs as root on each node of a job.
# A Prolog that fails drains its node: whatever goes wrong here is said, and the job runs without a folder.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
drop=${ARTIFACTD_DROP_ROOT:-/data/drop}

# Each user's own folder is root's to make; in it, everything is made as that user, who may have put links there.
install -d -m 0755 -o "$SLURM_JOB_USER" "$drop/$SLURM_JOB_USER" &&
    runuser -u "$SLURM_JOB_USER" -- mkdir -p -m 0755 "$drop/$SLURM_JOB_USER/job-$SLURM_JOB_ID" ||
    echo "artifactd: no run folder for job $SLURM_JOB_ID" >&2
exit 0

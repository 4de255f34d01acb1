#!/bin/bash
# Epilog= of slurm.conf: marks the run as over, by the job's exit code. Runs as root on each node of a job.
# artifactd.service on the node delivers what is left whenever the server answers, so nothing waits for it here, unless
# ARTIFACTD_WAIT says for how many seconds: for nodes that are wiped or switched off after the job.
# An Epilog that fails drains its node, so this one never does.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
folder=${ARTIFACTD_DROP_ROOT:-/data/drop}/$SLURM_JOB_USER/job-$SLURM_JOB_ID

as_user() {
    runuser -u "$SLURM_JOB_USER" -- "$@"
}

as_user test -d "$folder" || exit 0
# The status as wait() tells it: exit code in the upper byte, signal in the lower seven bits. Slurms that do not say it
# leave the run open: `abandon_after` ends it.
if [ "$SLURM_JOB_EXIT_CODE" = 0 ]; then
    as_user touch "$folder/.done"
elif [ -n "$SLURM_JOB_EXIT_CODE" ]; then
    code=$((SLURM_JOB_EXIT_CODE >> 8)) signal=$((SLURM_JOB_EXIT_CODE & 127))
    as_user tee "$folder/.failed" >/dev/null <<<"job $SLURM_JOB_ID: exit code $code, signal $signal"
fi
if [ "${ARTIFACTD_WAIT:-0}" -gt 0 ]; then
    timeout "$ARTIFACTD_WAIT" /opt/artifactd/bin/python -c \
        'import artifactd, sys; artifactd.wait(sys.argv[1], state_dir="/var/lib/artifactd")' "$folder" ||
        echo "artifactd: not all of $folder is delivered yet; the service goes on with it" >&2
fi
exit 0

#!/bin/sh
# A preview of the branch you are on: made at its first push, updated by each further one, gone a week after it was made.
# For CI: run it in the project's folder, with SVCCTL_BACKEND naming the store that `svcctl serve` serves.
set -eu
svcctl env prune
svcctl env clone staging --branch --exist-ok --ttl 7d
svcctl deploy --branch "$@"

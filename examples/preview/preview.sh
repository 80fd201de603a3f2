#!/bin/sh
# A preview of the branch you are on: made at the first push, updated by each further one, gone a week after the last.
# In CI: run it in the project's folder, with SVCCTL_BACKEND naming the store that `svcctl serve` serves.
set -eu
svcctl env prune
svcctl env clone staging --branch --exist-ok --ttl 7d
environment=$(git rev-parse --abbrev-ref HEAD | tr 'A-Z_/' 'a-z--' | sed 's/[^a-z0-9-]//g; s/--*/-/g')
svcctl deploy --env "${PREVIEW:-$environment}"

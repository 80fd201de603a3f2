"""Secrets at rest and on their way to the store.

One *master key* (32 random bytes) stands outside the ledger: in `SVCCTL_SECRET_KEY`, or in the file `secret.key` of the
store. Values are sealed under it with AES-256-GCM. What they were sealed for is part of the seal, so a value moved to
another store, environment or name does not open, and one sealed for the way into the store (*transport*) does not pass
for one at rest.

One *fingerprint key* per store never changes, so that fingerprints in old settings stay comparable when the master key
is rotated. It is kept sealed under the master key, as text, by the store.

To rotate: `KeyFile.stage`, re-seal everything (`Sealer.rewrap`, `rewrap_fingerprint_key`) in one transaction,
`KeyFile.adopt`. Killed in between, `KeyFile.settle` with the key id that the ledger's fingerprint key names ends it.

Between stores values travel under a third kind of key, derived from a passphrase (`passphrase_key`), in the same form
as at rest.
"""

from svcctl.sealing.keys import VARIABLE, KeyFile, MasterKey, obtain_master_key, parse_master_key, present_master_key
from svcctl.sealing.passphrase import new_salt, passphrase_key
from svcctl.sealing.sealer import Sealer, new_fingerprint_key, rewrap_fingerprint_key, sealed_with
from svcctl.sealing.value import VALUE_SIZE, SecretValue

__all__ = [
    "VALUE_SIZE",
    "VARIABLE",
    "KeyFile",
    "MasterKey",
    "Sealer",
    "SecretValue",
    "new_fingerprint_key",
    "new_salt",
    "obtain_master_key",
    "parse_master_key",
    "passphrase_key",
    "present_master_key",
    "rewrap_fingerprint_key",
    "sealed_with",
]

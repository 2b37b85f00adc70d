//! The program where no Cyrus runs: archives of all sorts, spools that are damaged, and what can
//! be typed wrong.

mod auditing;
mod auditing_damage;
mod broken;
mod chains;
mod damage;
mod forge;
mod hostile;
mod places;
mod program;
mod promoting;
mod replicating;
mod replicating_answers;
mod replicating_damage;
mod rolling;
mod sample;
mod serving;
mod shared;
mod sweeping;
mod usage;
mod vault_cache;
mod vault_damage;
mod vault_drill;
mod vault_flags;
mod vault_full;
mod vault_garage;
mod vault_history;
mod vault_kill;
mod vault_many;
mod vault_names;
mod vault_prune;
mod vault_restore;
mod vault_s3;
mod vault_search;
mod vaults;
mod watching;

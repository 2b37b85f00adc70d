//! The program against a real Cyrus: accounts are filled, shaken, snapshotted and restored, and a
//! Cyrus on what was restored has the last word. Where there is no Cyrus, all of it is skipped.

mod account;
mod audit;
mod chain_check;
mod compare;
mod exports;
mod flags;
mod heal;
mod kill;
mod lock_order;
mod locks;
mod old_spool;
mod plain_tar;
mod privileges;
mod program;
mod promote;
mod reconstruct;
mod replicate;
mod replicate_compared;
mod replicate_damage;
mod replicate_shared;
mod restore_live;
mod restore_scene;
mod restored;
mod rolling;
mod rolling_storm;
mod round_trip;
mod serve_kill;
mod shared;
mod split_brain;
mod storm;
mod sweep;
mod vault;
mod versions;
mod waiting;
mod watcher;

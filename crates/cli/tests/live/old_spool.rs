//! Spools that were built without Cyrus.

use testkit::CyrusBuilder;
use testkit::spool_builder::Spool;

/// Makes everything in a built spool belong to Cyrus, as if it had written it. No server looks at
/// it: one of today would not leave it as it is.
pub fn prepare(builder: &CyrusBuilder, spool: &Spool) {
    let mut builder = builder
        .clone()
        .directory("configdirectory", &spool.config_directory)
        .directory("partition-default", &spool.partition);
    if let Some(path) = &spool.metapartition {
        builder = builder.directory("metapartition-default", path);
    }
    builder.give_to_cyrus().prepare().expect("directories change their owner");
}

//! What two replicas leave behind that are killed in the same way.

use serde_json::{Value, json};
use testkit::bench::{Options, Outcome, cyrus, master};
use testkit::kills::{Campaign, Victim, left_by};
use testkit::served::Served;

/// Kills both with the same seed, each with a master of its own.
pub fn run(options: &Options) -> Outcome<Value> {
    let mut cyrus = cyrus()?.start()?;
    let of_cyrus = kill(&mut cyrus, options)?;
    let mut cylinder = Served::start(&options.cylinder)?;
    let of_cylinder = kill(&mut cylinder, options)?;
    Ok(json!({ "cyrus": of_cyrus, "cylinder": of_cylinder }))
}

fn kill(victim: &mut dyn Victim, options: &Options) -> Outcome<Value> {
    let master = master()?;
    let mut campaign = Campaign::begin(&master, options.number("--seed")?)?;
    let (mut killed, mut converged) = (0_u64, 0_u64);
    let kills = options.number("--kills")?;
    for _ in 0..kills {
        campaign.change()?;
        killed += u64::from(campaign.strike(victim)?);
        converged += u64::from(campaign.converges(victim)?);
    }
    let left = left_by(victim)?;
    Ok(json!({
        "rounds": kills,
        "killed": killed,
        "converged": converged,
        "staged": left.staged,
        "staged_bytes": left.staged_bytes,
        "unfinished": left.unfinished,
        "unnamed": left.unnamed,
        "extra_links": left.extra_links,
        "missing": left.missing,
        "damaged": left.damaged,
    }))
}

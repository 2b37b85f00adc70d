//! What a server's log says, which of it is everyday, and what deserves a noise.
//!
//! A line is read ([`mod@line`]), its words are masked ([`mask`]), and what is left of it is its
//! template ([`book`]). How often each comes, and when, is its habit ([`everyday`]); some lines matter
//! however often they come ([`alarms`]). What is not everyday is a noise ([`noise`]), and all noises of
//! one trouble are an incident ([`incidents`]). [`Watcher`] does it all, and can be kept ([`state`]).
//!
//! Pure: bytes and times in, values out. Files, clocks and whoever is to hear a noise are the
//! caller's. What it holds is bounded, whatever the log says.

pub mod alarms;
pub mod book;
pub mod everyday;
pub mod incidents;
pub mod line;
pub mod mask;
pub mod noise;
mod recent;
pub mod state;
pub mod time;
mod watcher;

pub use watcher::{Explanation, Mode, Watcher};

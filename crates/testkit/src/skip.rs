//! Tests that need more than the workspace, and are skipped where it is missing; never silently,
//! and never where it has to be there.

use std::path::Path;

/// What a test can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A real Cyrus; `CYLINDER_REQUIRE_CYRUS` says that there must be one.
    Cyrus,
    /// Programs such as strace; `CYLINDER_REQUIRE_TOOLS` says that they must be there.
    Tools,
    /// Garage; `CYLINDER_REQUIRE_GARAGE` says that it must be there.
    Garage,
}

impl Need {
    fn variable(self) -> &'static str {
        match self {
            Need::Cyrus => "CYLINDER_REQUIRE_CYRUS",
            Need::Tools => "CYLINDER_REQUIRE_TOOLS",
            Need::Garage => "CYLINDER_REQUIRE_GARAGE",
        }
    }
}

/// Says that `test` is skipped because something is lacking.
///
/// # Panics
///
/// Instead of skipping, if that has to be there.
pub fn skip(test: &str, need: Need, lacking: &str) {
    let variable = need.variable();
    let note = format!("SKIPPED {test}: needs {lacking}");
    assert!(std::env::var_os(variable).is_none(), "{note}, and {variable} is set");
    println!("{note}");
}

/// Whether a program is there, given by its path; if not, `test` is skipped.
///
/// # Panics
///
/// Instead of skipping, if `CYLINDER_REQUIRE_TOOLS` is set.
pub fn has_tool_or_skip(test: &str, program: &str) -> bool {
    let there = Path::new(program).exists();
    if !there {
        skip(test, Need::Tools, program);
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_there_or_not() {
        assert!(has_tool_or_skip("a_tool_is_there", "/bin/sh"));
        if std::env::var_os(Need::Tools.variable()).is_none() {
            assert!(!has_tool_or_skip("a_tool_is_not_there", "/nonexistent/tool"));
        }
    }
}

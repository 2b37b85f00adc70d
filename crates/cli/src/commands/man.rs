//! `cylinder man`: the manual page, made from the same definitions as `--help`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::Cli;
use crate::error::{CliError, Exit};

/// Writes one page: the program, then each verb.
pub fn run() -> Result<Exit, CliError> {
    let mut page = Vec::new();
    render(&mut page).map_err(|error| CliError::failed("cannot make the manual page", error))?;
    let written = io::stdout().write_all(&page);
    written.map_err(|error| CliError::failed("cannot print the manual page", error))?;
    Ok(Exit::Done)
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let mut cli = Cli::command();
    cli.build();
    Man::new(cli.clone()).render(page)?;
    for verb in cli.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let man = Man::new(verb.clone());
        writeln!(page, ".SH CYLINDER {}", verb.get_name().to_uppercase())?;
        man.render_synopsis_section(page)?;
        man.render_description_section(page)?;
        man.render_options_section(page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_verb_and_the_exit_codes() {
        let mut page = Vec::new();
        render(&mut page).expect("a Vec takes all");
        let page = String::from_utf8(page).expect("roff is text");
        for needle in ["CYLINDER SNAPSHOT", "CYLINDER LIST", "CYLINDER RESTORE", "75 a lock"] {
            assert!(page.contains(needle), "{needle}");
        }
    }
}

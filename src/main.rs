//! The `paxoskv` program: subcommands and exit codes. `paxoskv --help` describes it; [`paxoskv::cli`] is behind it.

use clap::Parser;
use paxoskv::cli::{self, Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    // What clap cannot parse ends here with its own exit status, 2.
    let Cli { globals, command } = Cli::parse();
    let outcome = match command {
        Command::Ask(command) => cli::run(&globals, command),
        Command::Agent(args) => cli::serve(&globals, args),
        Command::Dev(args) => cli::dev(args),
    };
    outcome.unwrap_or_else(|failure| cli::report(&failure)).into()
}

//! The command line of vecstone: one file per command under `commands`.

mod args;
mod commands;
mod documents;
mod failure;
mod ids;
mod lines;
mod npy;
mod old;
mod output;
mod progress;
mod repeats;
mod rows;
mod writer;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Cli, Command};
use crate::failure::Result;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| leave(&error));
    let mut output = Output::stdout();
    let outcome = survive_size_limit()
        .and_then(|()| run(cli.command, &mut output))
        .and_then(|code| output.finish(code));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // What was printed before the failure is still data that somebody asked for.
            let _ = output.finish(failure.code);
            if !failure.message.is_empty() {
                let _ = writeln!(std::io::stderr(), "vecstone: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Help and version are shown as they are; wrong usage is one line, like every other error.
fn leave(error: &clap::Error) -> ! {
    if error.exit_code() == 0 || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let line: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
    let _ = writeln!(std::io::stderr(), "vecstone: {}; try --help", line.join(" "));
    std::process::exit(2)
}

/// Runs one command; `Ok` is the exit code: 0, or 1 for "not found" and "verification failed".
fn run(command: Command, output: &mut Output) -> Result<u8> {
    match command {
        Command::Create(args) => commands::create::run(&args, output),
        Command::Import(args) => commands::import::run(&args, output),
        Command::Get(args) => commands::get::run(&args, output),
        Command::Search(args) => commands::search::run(&args, output),
        Command::Delete(args) => commands::delete::run(&args, output),
        Command::Info(args) => commands::info::run(&args, output),
        Command::Verify(args) => commands::verify::run(&args, output),
        Command::Compact(args) => commands::compact::run(&args, output),
        Command::Backup(args) => commands::backup::run(&args, output),
        Command::Repair(args) => commands::repair::run(&args, output),
        Command::Export(args) => commands::export::run(&args, output),
        Command::Migrate(args) => commands::migrate::run(&args, output),
        Command::Demo(args) => commands::demo::run(&args, output),
    }
}

/// A file size limit sends SIGXFSZ, which kills; with a handler in place the write returns an error instead.
#[cfg(unix)]
fn survive_size_limit() -> Result<()> {
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen)
        .map(|_| ())
        .map_err(|e| failure::Failure::error(format!("cannot handle SIGXFSZ: {e}")))
}

#[cfg(not(unix))]
fn survive_size_limit() -> Result<()> {
    Ok(())
}

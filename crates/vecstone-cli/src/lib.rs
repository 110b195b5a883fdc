//! The command line of vecstone as a library, for programs that bring the `vecstone` command with them: one file per
//! command under `commands`.

mod args;
mod commands;
mod ctrl_c;
mod documents;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod ids;
mod importer;
mod lines;
mod npy;
mod npy_input;
mod old;
mod output;
mod progress;
mod repeats;
mod rows;
#[cfg(feature = "arrow")]
mod table;
mod writer;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

pub use crate::commands::info::{effort_json, info_json, stats_json};

use crate::args::{Cli, Command};
use crate::failure::Result;
use crate::output::{Output, note};

/// Runs one command line, the name of the program first, and returns its exit code: 0 found or done, 1 not found or
/// verification failed, 2 error, 130 ended by Ctrl-C with part of the rows stored. Prints to stdout and stderr; never ends
/// the process, and may be called again. Signals are the program's: through [`interruptible`](vecstone::interruptible) an
/// import ends between two batches, too.
///
/// `vecstone demo` starts the program again: this one if it is called `vecstone`, else the one that is named first. A
/// program with other signal handlers than Rust's should ignore SIGXFSZ and SIGPIPE, as Python does.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let code = match Cli::try_parse_from(&args) {
        Ok(cli) => run_and_print(cli.command, args.first()),
        Err(error) => refuse(&error),
    };
    // Not every program does that when it ends.
    let _ = std::io::stdout().flush();
    code
}

/// As [`run`], for a process that runs this one command: while rows are imported, Ctrl-C ends the command between two
/// batches. The handler of SIGINT stays, and ends the process when it is pressed later.
pub fn run_as_process(args: impl IntoIterator<Item = OsString>) -> u8 {
    ctrl_c::own();
    run(args)
}

fn run_and_print(command: Command, program: Option<&OsString>) -> u8 {
    let mut output = Output::stdout();
    match run_command(command, program, &mut output).and_then(|code| output.finish(code)) {
        Ok(code) => code,
        Err(failure) => {
            // What was printed before the failure is still data that somebody asked for.
            let _ = output.finish(failure.code);
            if !failure.message.is_empty() {
                note(format!("vecstone: {}", failure.message));
            }
            failure.code
        }
    }
}

/// Help and version are shown as they are; wrong usage is one line, like every other error.
fn refuse(error: &clap::Error) -> u8 {
    if error.exit_code() == 0 || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // If nobody reads it, there is nobody to tell.
        let _ = error.print();
        return if error.exit_code() == 0 { 0 } else { 2 };
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let line: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
    note(format!("vecstone: {}; {}", line.join(" "), meant(error).unwrap_or("try --help")));
    2
}

/// What to write in the place of an argument that other programs have.
fn meant(error: &clap::Error) -> Option<&'static str> {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = given.split(['=', ' ']).next().unwrap_or_default();
    match name.trim_start_matches('-') {
        "limit" | "top-k" | "topk" | "n" | "num" | "count" => Some("-k says how many results"),
        "where" | "query-filter" => Some("--filter selects rows for a search"),
        "distance" | "space" => Some("--metric says how distances are measured"),
        "dimension" | "dims" | "dimensions" => Some("--dim says how many components a vector has"),
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '[') && text.contains(',') => {
            Some("give the query with --vector")
        }
        _ => None,
    }
}

/// Runs one command; `Ok` is the exit code: 0, or 1 for "not found" and "verification failed".
fn run_command(command: Command, program: Option<&OsString>, output: &mut Output) -> Result<u8> {
    match command {
        Command::Create(args) => commands::create::run(&args, output),
        Command::Import(args) => commands::import::run(&args, output),
        Command::Get(args) => commands::get::run(&args, output),
        Command::Search(args) => commands::search::run(&args, output),
        Command::Delete(args) => commands::delete::run(&args, output),
        Command::Info(args) => commands::info::run(&args, output),
        Command::Verify(args) => commands::verify::run(&args, output),
        Command::Compact(args) => commands::compact::run(&args, output),
        Command::Optimize(args) => commands::optimize::run(&args, output),
        Command::Tune(args) => commands::tune::run(&args, output),
        Command::Backup(args) => commands::backup::run(&args, output),
        Command::Repair(args) => commands::repair::run(&args, output),
        Command::Export(args) => commands::export::run(&args, output),
        Command::Migrate(args) => commands::migrate::run(&args, output),
        Command::Demo(args) => commands::demo::run(&args, program, output),
    }
}

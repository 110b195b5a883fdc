//! The `vecstone` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(e) = survive_size_limit() {
        eprintln!("vecstone: cannot handle SIGXFSZ: {e}");
        return ExitCode::from(2);
    }
    ExitCode::from(vecstone_cli::run_as_process(std::env::args_os()))
}

/// A file size limit sends SIGXFSZ, which kills; with a handler in place the write returns an error instead.
#[cfg(unix)]
fn survive_size_limit() -> std::io::Result<()> {
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen).map(|_| ())
}

#[cfg(not(unix))]
fn survive_size_limit() -> std::io::Result<()> {
    Ok(())
}

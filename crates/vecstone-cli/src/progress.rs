//! What is acknowledged, as it happens: a bar on a terminal, plain lines otherwise. Always on stderr.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{human_bytes, note, precise, stderr_is_terminal};

/// Tells of acknowledged rows.
pub(crate) struct Progress {
    started: Instant,
    total: u64,
    row_bytes: u64,
    rows: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(total: u64, dim: usize) -> Progress {
        let bar = stderr_is_terminal().then(|| bar(total));
        Progress { started: Instant::now(), total, row_bytes: dim as u64 * 4, rows: AtomicU64::new(0), bar }
    }

    /// The first `rows` rows are durable.
    pub(crate) fn acknowledged(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        let bytes = rows * self.row_bytes;
        let what = format!("{}, {}", human_bytes(bytes), rate(bytes, self.started.elapsed()));
        match &self.bar {
            Some(bar) => {
                bar.set_position(rows);
                bar.set_message(what);
            }
            None => note(format!("acknowledged {rows} of {} rows ({what})", self.total)),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How many rows are acknowledged, of how many.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.total)
    }
}

impl Drop for Progress {
    /// The bar goes, so that a summary or an error stands on a line of its own.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template(
        "[{bar:30}] {human_pos} of {human_len} rows acknowledged ({msg}), {eta} left",
    );
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Bytes a second, as text.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(1e-6);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive rate, for people"
    )]
    let a_second = (precise(bytes) / seconds) as u64;
    format!("{}/s", human_bytes(a_second))
}

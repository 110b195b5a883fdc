//! What is done, as it happens: a bar on a terminal, plain lines otherwise. Always on stderr.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{human_bytes, note, precise, stderr_is_terminal, verb};
use vecstone::counted;

/// Tells of acknowledged rows.
pub(crate) struct Progress {
    started: Instant,
    /// `None`: nobody knows.
    total: Option<u64>,
    row_bytes: u64,
    rows: Cell<u64>,
    bar: Bar,
}

impl Progress {
    pub(crate) fn new(total: Option<u64>, dim: usize) -> Progress {
        let bar = Bar::new(match total {
            Some(_) => "[{bar:30}] rows acknowledged: {human_pos} of {human_len} ({msg}), {eta} left",
            None => "{spinner} rows acknowledged: {human_pos} ({msg})",
        });
        Progress { started: Instant::now(), total, row_bytes: dim as u64 * 4, rows: Cell::new(0), bar }
    }

    /// The first `rows` rows are durable.
    pub(crate) fn acknowledged(&self, rows: u64) {
        self.rows.set(rows);
        let bytes = rows * self.row_bytes;
        let what = format!("{}, {}", human_bytes(bytes), rate(bytes, self.started.elapsed()));
        if !self.bar.show(rows, self.total.unwrap_or(rows), &what) {
            note(format!("acknowledged {} ({what})", self.so_far()));
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The form of a verb for the rows that are acknowledged.
    pub(crate) fn verb(&self, one: &'static str, many: &'static str) -> &'static str {
        verb(self.rows.get(), one, many)
    }

    /// How many rows are acknowledged, and of how many: "10 of 20 rows".
    pub(crate) fn so_far(&self) -> String {
        match (self.total, self.rows.get()) {
            (Some(total), rows) => format!("{rows} of {}", counted(total, "row")),
            (None, rows) => counted(rows, "row"),
        }
    }
}

/// A bar, where stderr is a terminal. It goes when it is dropped, so that what follows stands on a line of its own.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(crate) fn new(template: &str) -> Bar {
        let style = ProgressStyle::with_template(template);
        let bar = stderr_is_terminal().then(|| ProgressBar::new(0));
        if let (Some(bar), Ok(style)) = (&bar, style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar(bar)
    }

    /// False if there is no terminal to show it on.
    pub(crate) fn show(&self, done: u64, total: u64, what: &str) -> bool {
        let Some(bar) = &self.0 else { return false };
        bar.set_length(total);
        bar.set_message(what.to_owned());
        bar.set_position(done);
        true
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
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

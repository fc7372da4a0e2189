//! Shows how far an operation is and collects its warnings.
//!
//! On a terminal: a bar on standard error. Without one: a line every 30 seconds. With
//! `--json=lines`: a line of JSON a second on standard output. The operation itself only counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use volume_vault::clock::Stopwatch;
use volume_vault::entry::escape;
use volume_vault::event::{Counters, Observer, Warning};

use super::human::{count, rate, short_duration, size};
use super::{Format, Output, bars, document, notice};

/// More warnings than this are counted but not kept: hostile data cannot fill the memory.
const WARNINGS_MAX: usize = 10_000;

/// How often each form is refreshed.
const BAR_PERIOD: Duration = Duration::from_millis(100);
const LINE_PERIOD: Duration = Duration::from_secs(30);
const JSON_PERIOD: Duration = Duration::from_secs(1);

/// Watches one operation. Dropping it takes the bar off the screen.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    counters: Counters,
    stage: Mutex<String>,
    warnings: Mutex<Vec<Warning>>,
    warnings_lost: std::sync::atomic::AtomicU64,
    skipped: AtomicBool,
    watch: Stopwatch,
    form: Form,
    quiet: bool,
    done: Mutex<bool>,
    wake: Condvar,
}

enum Form {
    None,
    Bar(ProgressBar),
    Lines,
    /// With the output the lines go to.
    Json(Output),
}

impl Progress {
    /// Starts to watch an operation, called `verb` where it is shown.
    pub(crate) fn start(output: &Output, verb: &str) -> Self {
        let form = match output.format {
            Format::JsonLines => {
                Form::Json(Output::new(Format::JsonLines, output.quiet, 0, output.progress))
            }
            _ if output.quiet || !output.progress => Form::None,
            _ => match bar() {
                Some(bar) => Form::Bar(bar),
                None => Form::Lines,
            },
        };
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            stage: Mutex::new(verb.to_owned()),
            warnings: Mutex::new(Vec::new()),
            warnings_lost: 0.into(),
            skipped: AtomicBool::new(false),
            watch: Stopwatch::start(),
            form,
            quiet: output.quiet,
            done: Mutex::new(false),
            wake: Condvar::new(),
        });
        let ticker = (!matches!(shared.form, Form::None)).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("progress".to_owned()).spawn(move || shared.tick())
        });
        // Without the thread the operation runs all the same, unseen.
        let ticker = Mutex::new(ticker.and_then(Result::ok));
        Self { shared, ticker }
    }

    /// The warnings so far, in the order they came; the first 10,000 of them.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        locked(&self.shared.warnings).clone()
    }

    /// How many warnings came, kept or not.
    pub(crate) fn warning_count(&self) -> u64 {
        let kept = locked(&self.shared.warnings).len() as u64;
        kept + self.shared.warnings_lost.load(Ordering::Relaxed)
    }

    /// Whether any warning says that something was left out: exit code 3.
    pub(crate) fn has_skipped(&self) -> bool {
        self.shared.skipped.load(Ordering::Relaxed)
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.watch.elapsed()
    }

    /// Takes the bar off the screen. What is printed afterwards stands alone.
    pub(crate) fn finish(&self) {
        *locked(&self.shared.done) = true;
        self.shared.wake.notify_all();
        let Some(ticker) = locked(&self.ticker).take() else { return };
        let _ = ticker.join();
        if let Form::Bar(bar) = &self.shared.form {
            bar.finish_and_clear();
            *bars() = None;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for Progress {
    fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    fn warn(&self, warning: Warning) {
        let shared = &self.shared;
        if warning.skipped {
            shared.skipped.store(true, Ordering::Relaxed);
        }
        if let Form::Json(output) = &shared.form {
            let _ = output.document(&document(json!({ "event": "warning",
                "object": String::from_utf8_lossy(&warning.object),
                "message": warning.message, "skipped": warning.skipped })));
        }
        let line = warning_line(&warning);
        let skipped = warning.skipped;
        let kept = {
            let mut warnings = locked(&shared.warnings);
            let room = warnings.len() < WARNINGS_MAX;
            if room {
                warnings.push(warning);
            }
            room
        };
        if !kept {
            let _ = shared.warnings_lost.fetch_add(1, Ordering::Relaxed);
        } else if !shared.quiet || skipped {
            // What is missing is said whatever else is not.
            notice(&line);
        }
    }

    fn stage(&self, name: &str) {
        *locked(&self.shared.stage) = name.to_owned();
    }
}

/// A warning as people read it; its object may hold anything.
pub(crate) fn warning_line(warning: &Warning) -> String {
    // The message may quote names that nobody escaped.
    let message = escape_text(&warning.message);
    match warning.object.is_empty() {
        true => format!("warning: {message}"),
        false => format!("warning: {}: {message}", escape(&warning.object)),
    }
}

/// Like [`escape`], for text that may hold escapes already: backslashes stay single.
pub(crate) fn escape_text(text: &str) -> String {
    escape(text.as_bytes()).replace("\\\\", "\\")
}

impl Shared {
    fn tick(&self) {
        let period = match self.form {
            Form::None => return,
            Form::Bar(_) => BAR_PERIOD,
            Form::Lines => LINE_PERIOD,
            Form::Json(_) => JSON_PERIOD,
        };
        let mut done = locked(&self.done);
        // It may be over before this thread first waits: nobody would wake it then.
        while !*done {
            let waited = self.wake.wait_timeout(done, period);
            done = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !*done {
                self.show();
            }
        }
    }

    fn show(&self) {
        let get = |counter| Counters::get(counter);
        let c = &self.counters;
        let (entries, bytes) = (get(&c.entries), get(&c.bytes));
        let (entries_total, bytes_total) = (get(&c.entries_total), get(&c.bytes_total));
        let elapsed = self.watch.elapsed();
        match &self.form {
            Form::None => {}
            Form::Bar(bar) => {
                if bytes_total > 0 {
                    bar.set_length(bytes_total.max(bytes));
                }
                bar.set_position(bytes);
                bar.set_message(self.line(elapsed));
                bar.tick();
            }
            Form::Lines => notice(&self.line(elapsed)),
            Form::Json(output) => {
                let _ = output.document(&document(json!({ "event": "progress",
                    "stage": *locked(&self.stage), "entries": entries, "bytes": bytes,
                    "bytes_written": get(&c.written), "entries_total": entries_total,
                    "bytes_total": bytes_total, "seconds": elapsed.as_secs_f64() })));
            }
        }
    }

    /// Stage, bytes, files, rate and, where the end is known, the time left.
    fn line(&self, elapsed: Duration) -> String {
        let c = &self.counters;
        let (bytes, bytes_total) = (Counters::get(&c.bytes), Counters::get(&c.bytes_total));
        let files = count(Counters::get(&c.entries));
        let stage = locked(&self.stage).clone();
        let of = match bytes_total {
            0 => String::new(),
            total => format!(" of {}", size(total)),
        };
        let left = match time_left(bytes, bytes_total, elapsed) {
            None => String::new(),
            Some(left) => format!(", {} left", short_duration(left)),
        };
        let rate = rate(bytes, elapsed);
        format!("{stage}: {}{of}, {files} files, {rate}{left}", size(bytes))
    }
}

/// None until a second has passed and a hundredth is done: before that it is a guess.
fn time_left(bytes: u64, total: u64, elapsed: Duration) -> Option<Duration> {
    let early = elapsed < Duration::from_secs(1) || bytes < total / 100;
    if bytes == 0 || bytes >= total || early {
        return None;
    }
    let millis = elapsed.as_millis() * u128::from(total - bytes) / u128::from(bytes);
    u64::try_from(millis).ok().map(Duration::from_millis)
}

/// A bar on standard error; none where that is no terminal.
fn bar() -> Option<ProgressBar> {
    let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    if multi.is_hidden() {
        return None;
    }
    let bar = multi.add(ProgressBar::no_length());
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    *bars() = Some(multi);
    Some(bar)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Progress {
        Progress::start(&Output::new(Format::Human, true, 0, true), "backup")
    }

    #[test]
    fn an_operation_that_ends_before_the_ticker_first_runs_is_not_waited_for() {
        let shown = Progress::start(&Output::new(Format::Human, false, 0, true), "backup");
        shown.finish();
        let watch = Stopwatch::start();
        shown.shared.tick();
        assert!(watch.elapsed() < LINE_PERIOD);
    }

    #[test]
    fn warnings_are_kept_in_order_and_a_skip_is_remembered() {
        let progress = quiet();
        progress.warn(Warning::notice("a", "is odd"));
        assert!(!progress.has_skipped());
        progress.warn(Warning::skipped("b", "permission denied"));
        assert!(progress.has_skipped());
        let objects: Vec<_> = progress.warnings().into_iter().map(|w| w.object).collect();
        assert_eq!(objects, [b"a", b"b"]);
    }

    #[test]
    fn endless_warnings_are_counted_but_not_kept() {
        let progress = quiet();
        for _ in 0..WARNINGS_MAX + 5 {
            progress.warn(Warning::notice("a", "is odd"));
        }
        assert_eq!(progress.warnings().len(), WARNINGS_MAX);
        assert_eq!(progress.warning_count(), WARNINGS_MAX as u64 + 5);
    }

    #[test]
    fn no_warning_can_steer_a_terminal() {
        let line = warning_line(&Warning::notice(&b"a\x1b[2J"[..], "link to `\x1b]0;x`, C:\\x"));
        assert_eq!(line, "warning: a\\u{1b}[2J: link to `\\u{1b}]0;x`, C:\\x");
    }

    #[test]
    fn a_line_tells_bytes_files_rate_and_time_left() {
        let progress = quiet();
        let counters = progress.counters();
        Counters::add(&counters.bytes, 10 << 20);
        Counters::add(&counters.entries, 1234);
        let line = |seconds| progress.shared.line(Duration::from_secs(seconds));
        assert_eq!(line(10), "backup: 10.0 MiB, 1,234 files, 1.00 MiB/s");
        Counters::add(&counters.bytes_total, 40 << 20);
        progress.stage("reading");
        assert_eq!(line(10), "reading: 10.0 MiB of 40.0 MiB, 1,234 files, 1.00 MiB/s, 30.0 s left");
    }

    #[test]
    fn the_time_left_is_unknown_at_the_start_and_at_the_end() {
        let second = Duration::from_secs(1);
        assert_eq!(time_left(0, 100, second), None);
        assert_eq!(time_left(50, 100, Duration::from_millis(999)), None);
        assert_eq!(time_left(100, 100, second), None);
        assert_eq!(time_left(50, 0, second), None);
        assert_eq!(time_left(25, 100, second), Some(3 * second));
    }
}
